// Keyboard for BertViz's own drawings, which answer to a pointer alone; it stands behind them in their frame.
// What d3 listens at becomes reachable: one stop of Tab for the heads and one for each list of tokens, arrow keys inside.
// Focus does what pointing does, Enter what a click does, and Shift with Enter what a double click does.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const listens = (node, type) => (node.__on ?? []).some((listener) => listener.type === type);
  const ring = document.createElement("div");
  ring.setAttribute("style", "position: absolute; pointer-events: none; outline: 2px solid #0068a3; outline-offset: 1px; border-radius: 2px; display: none");
  document.body.append(ring);
  const send = (node, type) => node.dispatchEvent(new MouseEvent(type, { bubbles: type !== "mouseleave" }));
  const isToken = (node) => node.tagName === "g" && listens(node, "mouseover");

  function name(node, i) {
    if (isToken(node)) return `token ${i}: ${node.querySelector("text")?.textContent ?? ""}`;
    const [, layer, head] = node.parentNode.querySelector("[id^=attn_background]")?.id.match(/(\d+)_(\d+)$/) ?? [];
    return layer === undefined ? `head ${i}` : `layer ${layer}, head ${head}`;
  }

  // Heads are one group, each list of tokens is another. What is folded away is hidden, and reached when it is unfolded.
  function groups() {
    const found = new Map();
    for (const node of document.querySelectorAll("#vis g, #vis rect")) {
      const token = isToken(node);
      if ((token || listens(node, "click")) && getComputedStyle(node).visibility === "hidden") continue;
      if (!token && (node.tagName !== "rect" || !listens(node, "click") || node.parentNode.closest("g[tabindex]"))) continue;
      const key = token ? node.parentNode : "heads";
      found.set(key, [...(found.get(key) ?? []), node]);
      if (token && !node.hasAttribute("tabindex")) node.setAttribute("tabindex", "-1");
    }
    return [...found.values()];
  }

  function place(node) {
    const box = (isToken(node) ? node.querySelector("rect") : node).getBoundingClientRect();
    Object.assign(ring.style, { display: "block", left: `${box.left + scrollX}px`, top: `${box.top + scrollY}px`, width: `${box.width}px`, height: `${box.height}px` });
  }

  function leave(node) {
    ring.style.display = "none";
    for (let at = node; at && at.namespaceURI === SVG; at = at.parentNode) if (listens(at, "mouseleave")) send(at, "mouseleave");
  }

  function act(node, type) {
    const target = listens(node, type) ? node : [...node.querySelectorAll("rect")].find((inner) => listens(inner, type));
    if (target) send(target, type);
  }

  let list = [];
  function renew() {
    list = groups();
    for (const nodes of list) {
      if (!nodes.some((node) => node.getAttribute("tabindex") === "0")) nodes[0].setAttribute("tabindex", "0");
      nodes.forEach((node, i) => {
        if (!node.hasAttribute("tabindex")) node.setAttribute("tabindex", "-1");
        node.setAttribute("role", "button");
        node.setAttribute("aria-label", name(node, i));
        node.style.outline = "none"; // the ring is drawn in its place: an outline of what is transparent is not seen
      });
    }
  }

  document.addEventListener("focusin", ({ target }) => {
    const nodes = list.find((each) => each.includes(target));
    if (!nodes) return;
    for (const node of nodes) node.setAttribute("tabindex", node === target ? "0" : "-1");
    if (isToken(target)) send(target, "mouseover");
    target.scrollIntoView({ block: "nearest", inline: "nearest" });
    place(target);
  });
  document.addEventListener("focusout", ({ target }) => { if (list.some((each) => each.includes(target))) leave(target); });
  document.addEventListener("keydown", (event) => {
    const nodes = list.find((each) => each.includes(event.target));
    if (!nodes) return;
    const i = nodes.indexOf(event.target);
    const top = (node) => Math.round(node.getBoundingClientRect().top);
    const across = nodes.filter((node) => top(node) === top(nodes[0])).length;
    const to = { ArrowLeft: i - 1, ArrowRight: i + 1, ArrowUp: i - across, ArrowDown: i + across, Home: 0, End: nodes.length - 1 }[event.key];
    if (to !== undefined) nodes[Math.max(0, Math.min(nodes.length - 1, to))].focus();
    else if (event.key === "Enter" || event.key === " ") act(event.target, event.shiftKey ? "dblclick" : "click");
    else return;
    event.preventDefault();
  });

  let asked = 0;
  new MutationObserver(() => { asked ||= requestAnimationFrame(() => { asked = 0; renew(); again(); }); })
    .observe(document.getElementById("vis"), { childList: true, subtree: true, attributeFilter: ["visibility"] });

  // BertViz draws all anew when a layer is chosen or a detail opens: then focus goes to the same place again.
  let held = null;
  document.addEventListener("focusin", ({ target }) => {
    const g = list.findIndex((each) => each.includes(target));
    held = g < 0 ? null : [g, list[g].indexOf(target)];
  });
  function again() {
    const active = document.activeElement;
    if (held && (active === document.body || !list.flat().includes(active) && active.matches("svg *"))) list[held[0]]?.[held[1]]?.focus();
  }
  renew();
})();
