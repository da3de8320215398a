// Asks the backends one after another, so that one does not slow another down, and shows each answer as it comes.
// Every text from the server or the visitor is put into the page as text, never as HTML.
"use strict";

const PATIENCE = 5000; // milliseconds after which the next backend is asked while a slow one still decodes
const POLL = 1000; // milliseconds between two looks at which backends are open
const SURE = 0.9; // a character with less than this probability is named among those that the model was least sure of
const NAMED = 3; // how many of them are named

const element = id => document.getElementById(id);
const rows = new Map(); // of each backend its name: the elements that show it, its state, which question it was asked
let question = { number: 0, text: "", drop: false }; // number 0: nothing was asked yet
let asking = false;
let polling = false;

const pause = milliseconds => new Promise(done => setTimeout(done, milliseconds));

function make(kind, text, ...classes) {
  const made = document.createElement(kind);
  made.textContent = text;
  made.classList.add(...classes);
  return made;
}

function nameOf(character) {
  const names = { "\n": "the end", "\t": "the start", " ": "space", "\u00a0": "no-break space", "\u202f": "narrow space" };
  return names[character] || (/^[\p{C}\p{Z}\p{M}]$/u.test(character)
    ? `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}` : `“${character}”`);
}

function percent(probability) {
  if (probability >= 0.995) return "> 99 %";
  if (probability < 0.005) return "< 1 %";
  return `${Math.round(100 * probability)} %`;
}

function level(probability) {
  if (probability >= SURE) return [];
  return [probability >= 0.7 ? "likely" : probability >= 0.5 ? "unsure" : "guess"];
}

function row(name) {
  if (!rows.has(name)) {
    const article = element("row").content.cloneNode(true).querySelector("article");
    const part = selector => article.querySelector(selector);
    article.dataset.backend = name;
    part("h3").textContent = name;
    element("backends").append(article);
    rows.set(name, {
      name, article, time: part(".time"), translation: part(".translation"), note: part(".note"), state: "", asked: 0,
    });
  }
  return rows.get(name);
}

function clear(one, time = "", note = "") {
  one.time.textContent = time;
  one.translation.replaceChildren();
  one.translation.removeAttribute("role");
  one.note.textContent = note;
  one.given = undefined;
}

// What the status line says of all backends together.
function summarize() {
  const all = [...rows.values()];
  const opening = all.some(one => one.state === "opening");
  const ready = all.filter(one => one.state === "ready").length;
  const answers = all.filter(one => one.given !== undefined);
  const different = new Set(answers.map(one => one.given)).size;
  const parts = [];
  if (answers.length === 1) parts.push(`${answers[0].name} answered.`);
  if (answers.length > 1) {
    const which = different === 1 ? "all with the same translation" : `with ${different} different translations`;
    parts.push(`${answers.length} backends answered, ${which}.`);
  }
  if (opening || !question.number) parts.push(`${ready} of ${all.length} backends are ready.`);
  if (opening) parts.push("The others start one after another; times are longer meanwhile.");
  const said = parts.join(" ");
  if (element("status").textContent !== said) element("status").textContent = said;
}

function showAnswer(one, answer) {
  one.given = answer.translation;
  one.time.textContent = `${answer.milliseconds.toLocaleString("en", { maximumSignificantDigits: 3 })} ms`;
  one.translation.replaceChildren(...answer.characters.map((at, position) => {
    const end = at.character === "\n";
    const mark = make("span", end ? "⏎" : at.character, "mark", ...level(at.probability), ...(end ? ["end"] : []));
    mark.setAttribute("role", "button");
    mark.setAttribute("aria-label", `${nameOf(at.character)}: ${at.choices
      .map(({ character, probability }) => `${nameOf(character)} ${percent(probability)}`).join(", ")}`);
    mark.tabIndex = position ? -1 : 0;
    mark.at = at;
    return mark;
  }));
  one.translation.setAttribute("role", "group");
  one.translation.setAttribute("aria-label", `Translation by ${one.name}: ${answer.translation || "nothing"}`);
  const notes = [leastSure(answer.characters)];
  if (!answer.translation) notes.unshift("The model ended the sentence at once.");
  if (!answer.ended) notes.push("It found no end; decoding stops here.");
  one.note.textContent = notes.join(" ").trim();
  if (answer.doubt) notice(`${answer.doubt[0].toUpperCase()}${answer.doubt.slice(1)}.`);
}

function leastSure(characters) {
  const byProbability = [...characters].sort((a, b) => a.probability - b.probability);
  const unsure = byProbability.filter(at => at.probability < SURE);
  if (!unsure.length) return "";
  const named = unsure.slice(0, NAMED).map(at => {
    const others = at.choices.filter(({ character }) => character !== at.character);
    const instead = others.length ? ` (or ${nameOf(others[0].character)}, ${percent(others[0].probability)})` : "";
    return `${place(characters, at)} ${percent(at.probability)}${instead}`;
  });
  return `Least sure of: ${named.join("; ")}.`;
}

// A character's name and, where it occurs more than once, the word that it is part of.
function place(characters, at) {
  if (characters.filter(other => other.character === at.character).length === 1) return nameOf(at.character);
  const index = characters.indexOf(at);
  const space = other => /\s/u.test(other.character);
  let start = index, end = index;
  while (start > 0 && !space(characters[start - 1])) start -= 1;
  while (end < characters.length && !space(characters[end])) end += 1;
  const word = characters.slice(start, end).map(other => other.character).join("");
  if (space(at)) return `${nameOf(at.character)} after “${word}”`;
  return word === at.character ? nameOf(at.character) : `${nameOf(at.character)} in “${word}”`;
}

function notice(message, canDrop = false) {
  element("notice").hidden = !message;
  element("notice").querySelector("p").textContent = message;
  element("drop").hidden = !canDrop;
}

async function ask(one, asked) {
  one.asked = asked.number;
  clear(one, "…");
  let status = 0, answer;
  try {
    const response = await fetch("/translate", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ backend: one.name, text: asked.text, drop_unknown: asked.drop }),
    });
    status = response.status;
    answer = await response.json();
  } catch {
    answer = { error: "The server does not answer; is rosetta serve still running?" };
  }
  if (asked !== question) return; // another sentence was typed meanwhile
  if (status === 200) {
    showAnswer(one, answer);
    return summarize();
  }
  clear(one, "", status >= 500 ? answer.error : "");
  if (status < 500) { // wrong for every backend
    question = { ...question, number: question.number + 1 };
    for (const other of rows.values()) other.asked = question.number;
    notice(answer.error, Boolean(answer.unknown));
  }
  refresh();
}

async function askAll() {
  if (asking) return;
  asking = true;
  const next = () => [...rows.values()].find(one => one.state === "ready" && one.asked !== question.number);
  for (let one = next(); one && question.number; one = next()) {
    await Promise.race([ask(one, question), pause(PATIENCE)]);
  }
  asking = false;
}

function begin(text, drop) {
  question = { number: question.number + 1, text, drop };
  element("asked").textContent = text;
  element("asked").hidden = false;
  notice("");
  hideTip();
  for (const one of rows.values()) if (one.state === "ready") clear(one);
  summarize();
  askAll();
}

// Shows which run translates, and sentences to click on.
function present({ run, examples, longest }) {
  document.title = `Rosetta: translate with ${run}`;
  element("run").textContent = `Rosetta · ${run}`;
  element("text").maxLength = longest;
  element("hint").textContent = `Up to ${longest} characters.`;
  for (const [name, sentences] of Object.entries(examples)) {
    element("hint").append(` ${name}: `);
    for (const example of sentences) {
      const button = make("button", example, "example");
      button.type = "button";
      button.addEventListener("click", () => {
        element("text").value = example;
        begin(example, false);
      });
      element("hint").append(button, " ");
    }
  }
}

// Looks which backends are open, and looks again as long as one is being opened.
async function refresh() {
  if (polling) return;
  polling = true;
  let opening = true;
  while (opening) {
    try {
      const { backends, ...about } = await (await fetch("/backends")).json();
      if (!rows.size) present(about);
      for (const { name, state, message } of backends) {
        const one = row(name);
        if (one.state !== state) {
          one.state = state;
          one.article.className = state;
          if (state !== "ready") clear(one, state === "opening" ? "starting" : "failed", message);
          else if (question.number && one.asked === question.number) one.time.textContent = "ready again";
          else clear(one, "ready");
        }
      }
      opening = backends.some(({ state }) => state === "opening");
    } catch {
      notice("The server does not answer; is rosetta serve still running?");
      break;
    }
    summarize();
    askAll();
    if (opening) await pause(POLL);
  }
  polling = false;
}

function showTip(mark) {
  const tip = element("tip"), { at } = mark;
  const choices = at.choices.some(({ character }) => character === at.character) ? at.choices
    : [...at.choices, at];
  tip.replaceChildren(...choices.map(({ character, probability }) => {
    const line = make("div", "", ...(character === at.character ? ["taken"] : []));
    line.append(make("span", nameOf(character)), make("span", percent(probability)));
    return line;
  }));
  tip.hidden = false;
  const box = mark.getBoundingClientRect(), widest = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${Math.max(8, Math.min(box.left, widest)) + scrollX}px`;
  const below = box.bottom + 6 + tip.offsetHeight <= innerHeight;
  tip.style.top = `${(below ? box.bottom + 6 : box.top - 6 - tip.offsetHeight) + scrollY}px`;
}

function hideTip() {
  element("tip").hidden = true;
}

element("form").addEventListener("submit", event => {
  event.preventDefault();
  begin(element("text").value, false);
});
element("drop").addEventListener("click", () => begin(question.text, true));

const answers = element("backends");
for (const kind of ["pointerover", "focusin", "click"]) {
  answers.addEventListener(kind, event => (event.target.at ? showTip(event.target) : hideTip()));
}
answers.addEventListener("pointerleave", hideTip);
answers.addEventListener("focusout", hideTip);
answers.addEventListener("keydown", event => {
  const steps = { ArrowLeft: "previousElementSibling", ArrowRight: "nextElementSibling" };
  const to = event.target.at && steps[event.key] && event.target[steps[event.key]];
  if (!to) return;
  event.preventDefault();
  event.target.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
});
document.addEventListener("keydown", event => event.key === "Escape" && hideTip());

refresh();
