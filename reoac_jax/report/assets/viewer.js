"use strict";
// The trace viewer. Its data are what reoac_jax/report/traces.py packed; one episode is unpacked when
// it is chosen. A view number v shows the row after v steps; 0 is the start, all masked.
(() => {
  const root = document.documentElement;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  const data = JSON.parse(document.getElementById("traces").textContent);
  const viewer = document.getElementById("viewer");
  if (!viewer) return; // no episode has been sampled
  const part = (name) => document.getElementById(`trace-${name}`);
  const SECONDS_A_STEP = 0.5;

  let shown = []; // places in data.episodes that the filter lets through
  let episode = null; // unpacked: its fields, and `rows[v][position]`
  let view = 0;
  let timer = 0;
  let wanted = 0; // counts the choices: a slow unpacking must not overtake a later one

  async function unpack(place) {
    const bytes = Uint8Array.from(atob(data.episodes[place].trace), (c) => c.charCodeAt(0));
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const unpacked = await new Response(plain).json();
    unpacked.rows = rowsOf(unpacked);
    const q = unpacked.steps.flatMap((step) => step.q);
    unpacked.low = Math.min(0, ...q);
    unpacked.high = Math.max(0, ...q);
    return unpacked;
  }

  function rowsOf({ steps, length, texts }) {
    const blank = { state: "masked", text: null, confidence: null, since: 0 };
    const rows = [Array(length).fill(blank)];
    steps.forEach((step, index) => {
      const before = rows[index];
      const written = new Map(step.written);
      const repaired = new Set(step.repaired);
      let next = 0; // confidences are of the masked and the written positions, ascending
      rows.push(
        before.map((cell, position) => {
          const open = cell.text === null || written.has(position);
          const confidence = open ? step.confidence[next++] : cell.confidence;
          if (repaired.has(position)) return { state: "repaired", text: null, was: cell, confidence: null };
          if (written.has(position)) {
            return { state: "revealed", text: texts[written.get(position)], confidence, since: index + 1 };
          }
          return cell.text === null
            ? { state: "masked", text: null, confidence, since: 0 }
            : { ...cell, state: "kept" };
        }),
      );
    });
    return rows;
  }

  const quoted = (text) => `“${text}”`;
  const percent = (value) => (value === null ? "" : `, confidence ${value} %`);

  function inWords(cell, position) {
    const place = `Position ${position + 1}`;
    if (cell.state === "revealed") return `${place}: ${quoted(cell.text)} revealed now${percent(cell.confidence)}`;
    if (cell.state === "kept") return `${place}: ${quoted(cell.text)} kept since step ${cell.since}${percent(cell.confidence)} then`;
    if (cell.state === "repaired") return `${place}: masked again; it was ${quoted(cell.was.text)}${percent(cell.was.confidence)} at step ${cell.was.since}`;
    return cell.confidence === null ? `${place}: masked` : `${place}: masked${percent(cell.confidence)} in what the model would write`;
  }

  // White space must be seen, and a line break must break the line.
  const visible = (text) => text.replace(/\n/g, "⏎\n").replace(/\t/g, "⇥") || " ";

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function fill(parent, children) {
    parent.replaceChildren(...children);
  }

  function operatorCell(operator) {
    const cell = element("td");
    const dot = element("span", "dot");
    dot.style.setProperty("--operator", data.colours[episode.operators[operator]]);
    cell.append(dot, episode.operators[operator]);
    return cell;
  }

  function tableRow(cells, className) {
    const made = element("tr", className);
    made.append(...cells.map((cell) => (cell instanceof Node ? cell : element("td", "number", cell))));
    return made;
  }

  function drawTokens() {
    const nodes = part("tokens").children;
    episode.rows[view].forEach((cell, position) => {
      const node = nodes[position];
      const text = cell.state === "repaired" ? visible(cell.was.text) : cell.text === null ? " " : visible(cell.text);
      if (node.textContent !== text) node.textContent = text;
      node.className = `token ${cell.state}`;
      node.style.setProperty("--sure", cell.state === "masked" ? (cell.confidence ?? 0) : 0);
      node.setAttribute("aria-label", inWords(cell, position));
    });
  }

  function drawStep() {
    const step = episode.steps[view - 1];
    part("operator").textContent = step ? `Step ${view}: ${episode.operators[step.operator]}` : "Start: all masked";
    const asked = step && step.chosen !== step.operator ? `; the actor asked for ${episode.operators[step.chosen]}` : "";
    const done = step && step.executed !== step.operator ? `; done as ${episode.operators[step.executed]}` : "";
    part("note").textContent = step
      ? `cost ${step.cost}, ${step.written.length} revealed, ${step.repaired.length} masked again${asked}${done}`
      : "Step on to see what each operator does.";
    part("values").hidden = !step;
    const candidates = step ? step.candidates : [];
    part("candidates").hidden = !candidates.length;
    if (!step) return fill(part("features").tBodies[0], []);
    const range = Math.max(episode.high - episode.low, 1e-9);
    const percentOf = (value) => (100 * (value - episode.low)) / range;
    fill(
      part("values").tBodies[0],
      step.q.map((q, operator) => {
        const meter = element("td", "meter");
        const bar = element("div");
        const [from, to] = [Math.min(q, 0), Math.max(q, 0)].map(percentOf);
        bar.style.setProperty("--zero", `${percentOf(0)}%`);
        bar.style.setProperty("--from", `${from}%`);
        bar.style.setProperty("--size", `${to - from}%`);
        bar.style.setProperty("--operator", data.colours[episode.operators[operator]]);
        bar.append(element("i"));
        meter.append(bar);
        const share = `${(100 * step.policy[operator]).toFixed(0)} %`;
        return tableRow([operatorCell(operator), share, q.toFixed(3), meter], operator === step.operator ? "acted" : "");
      }),
    );
    const winner = candidates.findIndex(([operator]) => operator === step.executed);
    fill(
      part("candidates").querySelector("tbody"),
      candidates.map(([operator, value, cost], place) =>
        tableRow([operatorCell(operator), value.toFixed(3), String(cost)], place === winner ? "acted" : ""),
      ),
    );
    fill(
      part("features").tBodies[0],
      episode.features.map((name, place) => tableRow([element("td", "", name), step.features[place].toFixed(3)])),
    );
  }

  function show(v) {
    view = Math.max(0, Math.min(v, episode.steps.length));
    part("step").value = view;
    part("count").textContent = `step ${view} of ${episode.steps.length}`;
    [...part("timeline").children].forEach((node, index) => {
      node.classList.toggle("done", index < view);
      if (index === view - 1) node.setAttribute("aria-current", "step");
      else node.removeAttribute("aria-current");
    });
    point(null);
    drawTokens();
    drawStep();
  }

  function drawEpisode() {
    const { steps, length, texts, prompt } = episode;
    fill(part("prompt"), prompt.map((text) => element("span", "token", visible(texts[text]))));
    fill(
      part("tokens"),
      Array.from({ length }, (_, position) => {
        const node = element("span", "token");
        node.dataset.position = position;
        return node;
      }),
    );
    fill(
      part("timeline"),
      steps.map((step, index) => {
        const node = element("button");
        node.type = "button";
        node.title = `step ${index + 1}: ${episode.operators[step.operator]}`;
        node.setAttribute("aria-label", node.title);
        node.tabIndex = -1; // the slider is the way by keyboard
        node.style.setProperty("--operator", data.colours[episode.operators[step.operator]]);
        node.addEventListener("click", () => { stop(); show(index + 1); });
        return node;
      }),
    );
    const answer = [
      ["result", episode.text],
      ["extracted", `${episode.extracted ?? "nothing"}; expected ${episode.expected}`],
      ["reference", episode.reference],
    ];
    fill(part("answer"), answer.flatMap(([name, text]) => [element("dt", "", name), element("dd", "", text)]));
    part("step").max = steps.length;
  }

  async function choose(place) {
    stop();
    const mine = ++wanted;
    const unpacked = await unpack(place);
    if (mine !== wanted) return;
    episode = unpacked;
    part("episode").value = place;
    drawEpisode();
    show(episode.steps.length);
    viewer.dataset.episode = place; // tells a test what is on the screen
  }

  function neighbour(by) {
    const place = shown.indexOf(Number(part("episode").value)) + by;
    if (place >= 0 && place < shown.length) choose(shown[place]);
  }

  function list() {
    const keep = {
      all: () => true,
      solved: (e) => e.correct,
      unsolved: (e) => !e.correct,
      branched: (e) => e.branched,
      repaired: (e) => e.repaired,
    }[part("filter").value];
    const run = Number(part("run").value);
    shown = data.episodes.map((_, place) => place).filter((place) => data.episodes[place].run === run && keep(data.episodes[place]));
    fill(
      part("episode"),
      shown.map((place) => {
        const { iteration, number, correct, reward, cost, id } = data.episodes[place];
        const verdict = correct ? "✓ solved" : `✗ reward ${reward}`;
        const option = element("option", "", `iteration ${iteration}, episode ${number}: ${verdict}, cost ${cost} (${id})`);
        option.value = place;
        return option;
      }),
    );
    part("empty").hidden = shown.length > 0;
    part("body").hidden = shown.length === 0;
    if (shown.length) choose(shown[shown.length - 1]);
    else { stop(); wanted++; }
  }

  function play() {
    if (view === episode.steps.length) show(0);
    part("play").textContent = "❚❚ pause";
    part("play").setAttribute("aria-pressed", "true");
    timer = setInterval(() => {
      show(view + 1);
      if (view === episode.steps.length) stop();
    }, 1000 * SECONDS_A_STEP);
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    part("play").textContent = "▶ play";
    part("play").setAttribute("aria-pressed", "false");
  }

  const toggle = () => (timer ? stop() : play());
  const go = (v) => { stop(); show(v); };

  // ---- Pointing at a token: its numbers, and the prompt tinted by its relation in the final text
  function point(node) {
    const tip = part("tip");
    tip.hidden = !node;
    const position = node ? Number(node.dataset.position) : 0;
    const cell = node && episode.rows[view][position];
    const final = node && cell.text !== null && cell.text === episode.rows[episode.steps.length][position].text;
    const column = final ? episode.columns[episode.column[position]] : null;
    [...part("prompt").children].forEach((child, i) => child.style.setProperty("--related", column ? column[i] : 0));
    if (!node) return;
    tip.textContent = inWords(cell, position);
    const frame = viewer.getBoundingClientRect();
    const box = node.getBoundingClientRect();
    tip.style.top = `${box.bottom - frame.top + 6}px`;
    tip.style.left = "0";
    tip.style.left = `${Math.max(0, Math.min(box.left - frame.left, frame.width - tip.offsetWidth))}px`;
  }

  const tokenAt = (event) => event.target.closest("#trace-tokens .token");
  part("tokens").addEventListener("pointerover", (event) => point(tokenAt(event)));
  part("tokens").addEventListener("click", (event) => point(tokenAt(event)));
  part("tokens").addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") point(null); });

  document.addEventListener("keydown", (event) => {
    const box = viewer.getBoundingClientRect();
    const onScreen = box.bottom > 0 && box.top < innerHeight;
    const typing = event.target.closest("select, input:not([type=range]), textarea");
    if (!onScreen || !episode || !shown.length || typing || event.ctrlKey || event.altKey || event.metaKey) return;
    const inside = viewer.contains(event.target);
    const onButton = event.target.closest("button, summary, a");
    const actions = { ArrowLeft: () => go(view - 1), ArrowRight: () => go(view + 1) };
    if (inside) {
      actions.ArrowUp = () => neighbour(-1);
      actions.ArrowDown = () => neighbour(1);
      actions.Home = () => go(0);
      actions.End = () => go(episode.steps.length);
      if (!onButton) actions[" "] = toggle;
    }
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });

  part("first").addEventListener("click", () => go(0));
  part("back").addEventListener("click", () => go(view - 1));
  part("forward").addEventListener("click", () => go(view + 1));
  part("last").addEventListener("click", () => go(episode.steps.length));
  part("play").addEventListener("click", toggle);
  part("step").addEventListener("input", () => go(Number(part("step").value)));
  part("previous").addEventListener("click", () => neighbour(-1));
  part("next").addEventListener("click", () => neighbour(1));
  part("episode").addEventListener("change", () => choose(Number(part("episode").value)));
  part("filter").addEventListener("change", list);
  part("run").addEventListener("change", list);
  fill(
    part("run"),
    data.runs.map(({ label, place }) => {
      const option = element("option", "", label);
      option.value = place;
      return option;
    }),
  );
  list();
})();
