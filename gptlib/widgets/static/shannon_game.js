// Shannon's game: name words for a gap and how sure you are; your loss is −ln of what the right word got.
import { adapter, field, frame, inline, make, quoted, theme, watch } from "./base.js";

const MOST = 3;
const EDGES = [0, 0.2, 0.4, 0.6, 0.8, 1];
const same = (one, other) => one.trim().toLowerCase() === other.toLowerCase();
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const sum = (guesses) => guesses.reduce((total, [, p]) => total + p, 0);

/** What the right word got: what it was given by name, else its share of what was left over. */
export function given(right, guesses, words) {
  const named = guesses.find(([word]) => same(word, right));
  return named ? named[1] : (1 - sum(guesses)) / (words - guesses.length);
}

/** A sentence that says what is wrong with these guesses, or "". */
export function complaint(guesses) {
  const words = guesses.map(([word]) => word.trim().toLowerCase());
  if (new Set(words).size < words.length) return "The same word is named twice; add up what you give it.";
  const empty = guesses.find(([word, p]) => !word.trim() || !(p > 0 && p < 1));
  if (empty) return `Give ${quoted(empty[0])} more than 0 % and less than 100 %.`;
  const total = sum(guesses);
  if (total > 0.99 + 1e-9) return `Your words take ${Math.round(100 * total)} %; leave at least 1 % for all other words.`;
  return "";
}

/** How often words came true, by what they were given: rows of { low, high, said, right, n }, empty bins left out. */
export function calibration(said) {
  return EDGES.slice(1).map((high, i) => {
    const inside = said.filter(([p]) => p > EDGES[i] && p <= high);
    return { low: EDGES[i], high, n: inside.length, said: mean(inside.map(([p]) => p)), right: mean(inside.map(([, hit]) => Number(hit))) };
  }).filter((row) => row.n > 0);
}

/**
 * Show the game in `element`.
 *
 * `state`: passages ({ pieces, asked, nats: { name: [nats of each asked word] } }), words (suggestions, may be empty), n_words (how
 * many share what is left over), answers ({ passage, question, guesses: [[word, p], …] }); with `send`, the kernel keeps the
 * answers (`send({ answer })`, `send({ reset: true })`). Returns `update(state)` and `destroy()`.
 */
export function mount(element, state) {
  const { root, say } = frame(element, "Shannon's game", "shannon");
  const questions = state.passages.flatMap(({ asked }, passage) => asked.map((_, question) => ({ passage, question })));
  let answers = [...state.answers];
  let at = next();
  let open = true; // the gap is still to be filled; afterwards its word is shown until the player goes on

  const where = make("p", { class: "gl-muted" });
  const text = make("p", { class: "gl-text", tabindex: "0", role: "group", "aria-label": "The text so far, with a gap" });
  const list = `gl-words-${Math.random().toString(36).slice(2)}`;
  const suggestions = make("datalist", { id: list }, ...state.words.map((word) => make("option", { value: word })));
  const rows = Array.from({ length: MOST }, (_, i) => {
    const word = make("input", { type: "text", list: state.words.length ? list : null, autocomplete: "off", spellcheck: "false", oninput: tell });
    const share = make("input", { type: "number", min: 1, max: 99, step: 1, inputmode: "numeric", oninput: tell, "aria-label": `probability of word ${i + 1} in percent` });
    return { word, share, row: make("div", { class: "gl-guess" }, field(`word ${i + 1}`, word), share, make("span", {}, "%")) };
  });
  const rest = make("output", { class: "gl-rest" });
  const problem = make("p", { class: "gl-problem", role: "alert" });
  const submit = make("button", { type: "submit", class: "gl-primary" }, "Say it");
  const again = make("button", { type: "button", onclick: restart }, "Start over");
  const form = make("form", { class: "gl-guesses", onsubmit: (event) => { event.preventDefault(); if (open) answer(); else go(); } },
    ...rows.map(({ row }) => row), rest, problem, make("div", { class: "gl-bar" }, submit, again));
  const verdict = make("p", { class: "gl-verdict" });
  const board = make("table", { class: "gl-board" });
  const meant = make("table", { class: "gl-board" });
  root.append(where, text, suggestions, form, verdict, board, meant);

  function next() {
    return questions.findIndex((q) => !answers.some((a) => a.passage === q.passage && a.question === q.question));
  }

  function guesses() {
    return rows.map(({ word, share }) => [word.value.trim(), Number(share.value) / 100]).filter(([word, p]) => word || p);
  }

  function tell() {
    const left = 1 - sum(guesses());
    const others = state.n_words - guesses().length;
    rest.textContent = left < 0.01 ? "" : `${Math.round(100 * left)} % left over, shared by the other ${others.toLocaleString("en")} words`;
    problem.textContent = "";
  }

  function answer() {
    const named = guesses();
    problem.textContent = complaint(named);
    if (problem.textContent) return;
    const entry = { ...questions[at], guesses: named };
    answers = [...answers, entry];
    open = false;
    state.send?.({ answer: entry });
    show();
    const { right, loss, others } = judged(entry);
    verdict.textContent = `It was ${quoted(right)}. You paid ${loss.toFixed(2)} nats; ${others.map(([name, nats]) => `${name} ${nats.toFixed(2)}`).join(", ")}.`;
    say(verdict.textContent);
    submit.focus();
  }

  function go() {
    open = true;
    at = next();
    verdict.textContent = "";
    rows.forEach(({ word, share }) => { word.value = ""; share.value = ""; });
    show();
    if (at >= 0) rows[0].word.focus();
  }

  function restart() {
    answers = [];
    state.send?.({ reset: true });
    go();
    say("Started over");
  }

  function judged({ passage, question, guesses: named }) {
    const { pieces, asked, nats } = state.passages[passage];
    const right = pieces[asked[question]];
    return { right, loss: -Math.log(given(right, named, state.n_words)), others: Object.entries(nats).map(([name, list]) => [name, list[question]]) };
  }

  function show() {
    const done = at < 0;
    form.classList.toggle("gl-over", done);
    const current = done ? questions.at(-1) : questions[at];
    const { pieces, asked } = state.passages[current.passage];
    const upTo = done ? pieces.length : asked[current.question];
    const [n, m] = [state.passages.length, asked.length];
    where.textContent = done ? "That was the last word." : `Passage ${current.passage + 1} of ${n}, word ${current.question + 1} of ${m}`;
    text.replaceChildren(...pieces.slice(0, upTo).map((piece, i) => make("span", { class: asked.includes(i) ? "gl-asked" : null }, inline(piece))),
      ...(done ? [] : [make("strong", { class: "gl-gap" }, open ? "_____" : inline(pieces[upTo]))]));
    text.scrollTop = text.scrollHeight;
    for (const { word, share } of rows) word.disabled = share.disabled = !open || done;
    submit.textContent = open ? "Say it" : "Next word";
    submit.hidden = done;
    again.disabled = answers.length === 0;
    tell();
    if (!open || done) rest.textContent = "";
    scores();
  }

  function scores() {
    const results = answers.map(judged);
    board.hidden = results.length === 0;
    const said = answers.flatMap((a, i) => a.guesses.map(([word, p]) => [p, same(word, results[i].right)]));
    meant.hidden = said.length === 0;
    if (!results.length) return;
    const players = [["you", mean(results.map(({ loss }) => loss))],
      ...results[0].others.map(([name], k) => [name, mean(results.map(({ others }) => others[k][1]))])];
    const most = Math.max(...players.map(([, nats]) => nats), 1e-9);
    board.replaceChildren(
      make("caption", {}, `Mean loss over ${results.length} ${results.length === 1 ? "word" : "words"}, in nats`),
      make("tbody", {}, ...players.map(([name, nats]) => {
        const bar = make("i", { class: name === "you" ? "gl-you" : "" });
        bar.style.width = `${(100 * nats) / most}%`;
        return make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "gl-long" }, bar), make("td", {}, nats.toFixed(2)));
      })));
    meant.replaceChildren(
      make("caption", {}, "Did you mean what you said?"),
      make("thead", {}, make("tr", {}, ...["you said", "came true", "words"].map((words) => make("th", { scope: "col" }, words)))),
      make("tbody", {}, ...calibration(said).map((row) => make("tr", {},
        make("td", {}, `${Math.round(100 * row.said)} %`), make("td", {}, `${Math.round(100 * row.right)} %`), make("td", {}, String(row.n))))));
  }

  show();
  theme(root);
  const stop = watch(root, () => theme(root));
  return {
    update(changed) { state = { ...state, ...changed }; problem.textContent = state.problem ?? ""; },
    destroy() { stop(); },
  };
}

export default adapter(mount, ["passages", "words", "n_words", "answers", "problem"]);
