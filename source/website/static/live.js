// Puts a live view in the place of its picture when the reader comes near it. Without scripts the picture stays.

const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
const here = new URL(".", import.meta.url);
const styles = new Set();

/** Binary values were written as base64, at any depth. */
function unpacked(value) {
  if (value === null || typeof value !== "object") return value;
  if (typeof value.base64 === "string") return bytes(value.base64);
  if (Array.isArray(value)) return value.map(unpacked);
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, unpacked(each)]));
}

async function bringToLife(place) {
  const { view, state } = place.dataset;
  if (!styles.has(view)) {
    styles.add(view);
    const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href: new URL(`live/${view}.css`, here) });
    await new Promise((done) => { link.onload = link.onerror = done; document.head.append(link); });
  }
  const [module, response] = await Promise.all([import(new URL(`live/${view}.js`, here)), fetch(new URL(`live/${state}.json`, here))]);
  if (!response.ok) throw new Error(`${response.url}: ${response.status}`);
  const values = unpacked(await response.json());
  const stage = document.createElement("div");
  place.append(stage);
  (module.mount ?? module.default.mount)(stage, values);
  place.querySelector("img")?.remove();
  place.dataset.live = "yes";
}

const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    bringToLife(target).catch((error) => { target.dataset.live = "no"; console.warn(`The picture stays: ${error.message}`); });
  }
}, { rootMargin: "600px" });

for (const place of document.querySelectorAll(".gl-live")) near.observe(place);

// A block of code or an output that is wider than the page is scrolled by its own bar, with the keyboard too.
for (const block of document.querySelectorAll(".highlight pre, .output pre, .table-wrapper")) {
  if (block.scrollWidth > block.clientWidth) block.setAttribute("tabindex", "0");
}

for (const caption of document.querySelectorAll("p.caption[role=heading]:not([aria-level])")) caption.setAttribute("aria-level", "2");

// "Show code cell source" is the better name of what it opens.
for (const summary of document.querySelectorAll("details.hide > summary[aria-label]")) summary.removeAttribute("aria-label");
