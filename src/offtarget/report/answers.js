"use strict";
// The browser of sampled answers. Answers are untrusted: every one of them is written by textContent.

(function answersBrowser() {
  const { arms, questions, texts, verdicts, rows, numbers } = readIsland("answers-data");
  if (!rows.length) return;
  const CUT = 1, TRAIT = 2, MOST_HITS = 300;
  const [question, search, chips, prompt, count, said] = ["question", "search", "chips", "prompt", "count", "said"].map(byId);
  const shown = new Set(arms.flatMap((arm, n) => (arm.shown ? [n] : [])));
  const byQuestion = questions.map(() => []);
  for (const row of rows) byQuestion[row[0]].push(row);

  function make(tag, text, more = {}) {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    return Object.assign(element, more);
  }

  function head(cells) {
    const row = make("tr");
    for (const cell of cells) row.append(cell);
    const section = make("thead");
    section.append(row);
    return section;
  }

  function armHeading(n, detail) {
    const cell = make("th", undefined, { scope: "col", title: arms[n].label });
    cell.dataset.arm = numbers[n];
    cell.append(make("span", undefined, { className: "dot" }), arms[n].name);
    if (detail) cell.append(make("small", detail));
    return cell;
  }

  /** An answer as text, with what was searched for marked. */
  function answerCell(row, pattern) {
    const cell = make("td");
    const answer = make("span", undefined, { className: row[5] & TRAIT ? "answer trait" : "answer" });
    const text = texts[row[4]];
    let at = 0;
    for (const hit of pattern ? text.matchAll(pattern) : []) {
      answer.append(text.slice(at, hit.index), make("mark", hit[0]));
      at = hit.index + hit[0].length;
    }
    answer.append(text.slice(at));
    cell.append(answer);
    if (row[5] & TRAIT) cell.append(make("span", " (counts for the measure)", { className: "unseen" }));
    if (row[6] !== undefined && verdicts[row[6]]) {
      for (const said of verdicts[row[6]].split("; ")) cell.append(make("span", said, { className: "verdicts" }));
    }
    if (row[5] & CUT) cell.append(" ", make("span", "✂ cut at the token limit", { className: "cut" }));
    return cell;
  }

  function showQuestion() {
    const n = Number(question.value);
    prompt.hidden = questions[n].prompt === questions[n].text;
    prompt.replaceChildren(make("span", "Asked as: ", { className: "label" }), questions[n].prompt);
    const table = make("table");
    const columns = [...shown].sort((a, b) => a - b);
    const headings = columns.map((arm) => {
      const exact = questions[n].exact[arm];
      return armHeading(arm, exact === undefined ? "" : `exact ${exact.toFixed(exact < 0.095 ? 3 : 2)}`);
    });
    table.append(head([make("th", "Sample", { scope: "col" }), ...headings]));
    const lines = new Map();
    for (const row of byQuestion[n]) {
      const key = `seed ${row[2]} · ${row[3] + 1}`;
      if (!lines.has(key)) lines.set(key, new Map());
      lines.get(key).set(row[1], row);
    }
    const body = make("tbody");
    for (const [key, line] of lines) {
      if (!columns.some((arm) => line.has(arm))) continue;
      const tr = make("tr");
      tr.append(make("th", key, { scope: "row" }));
      for (const arm of columns) tr.append(line.has(arm) ? answerCell(line.get(arm)) : make("td"));
      body.append(tr);
    }
    table.append(body);
    said.replaceChildren(table);
    const cut = byQuestion[n].filter((row) => row[5] & CUT).length;
    count.textContent = `${byQuestion[n].length.toLocaleString("en")} answers to this question` + (cut ? `, ${cut} cut at the token limit` : "");
  }

  const worded = (q) => (q.context ? `${q.text} (${q.context})` : q.text);

  function showHits(wanted) {
    const pattern = new RegExp(wanted.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "giu");
    const matching = texts.map((text) => text.search(pattern) >= 0);
    const hits = rows.filter((row) => matching[row[4]]);
    const table = make("table");
    table.append(head(["Question", "Arm", "Sample", "Answer"].map((text) => make("th", text, { scope: "col" }))));
    const body = make("tbody");
    for (const row of hits.slice(0, MOST_HITS)) {
      const tr = make("tr");
      const arm = make("td");
      arm.dataset.arm = numbers[row[1]];
      arm.append(make("span", undefined, { className: "dot" }), arms[row[1]].name);
      tr.append(make("td", worded(questions[row[0]])), arm, make("td", `seed ${row[2]} · ${row[3] + 1}`), answerCell(row, pattern));
      body.append(tr);
    }
    table.append(body);
    said.replaceChildren(table);
    const found = `${hits.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} answers hold “${wanted}”`;
    count.textContent = hits.length > MOST_HITS ? `${found}; the first ${MOST_HITS} are shown` : found;
  }

  function show() {
    const wanted = search.value.trim();
    chips.hidden = Boolean(wanted);
    if (wanted) prompt.hidden = true;
    said.scrollTop = 0;
    wanted ? showHits(wanted) : showQuestion();
  }

  arms.forEach((arm, n) => {
    const chip = make("button", arm.name, { type: "button", title: arm.label });
    chip.dataset.arm = numbers[n];
    chip.setAttribute("aria-pressed", String(shown.has(n)));
    chip.addEventListener("click", () => {
      shown.has(n) ? shown.delete(n) : shown.add(n);
      chip.setAttribute("aria-pressed", String(shown.has(n)));
      show();
    });
    chips.append(chip);
  });

  const option = (q, n) => make("option", `${q.text} (${q.topic}${q.context ? `, ${q.context}` : ""})`, { value: n });
  for (const label of new Set(questions.map((q) => q.group))) {
    const group = make("optgroup", undefined, { label });
    questions.forEach((q, n) => q.group === label && group.append(option(q, n)));
    question.append(group);
  }
  const step = (by) => {
    question.selectedIndex = (question.selectedIndex + by + question.options.length) % question.options.length;
    search.value = "";
    show();
  };
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  question.addEventListener("change", () => {
    search.value = "";
    show();
  });
  search.addEventListener("input", later(150, show));
  window.showTopic = (topic) => {
    const n = questions.findIndex((q) => q.topic === topic);
    if (n < 0) return;
    question.value = n;
    search.value = "";
    show();
    byId("answers").scrollIntoView();
  };
  byId("browser").hidden = false;
  show();
})();

void figures.start();
