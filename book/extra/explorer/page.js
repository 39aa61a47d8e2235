/* The explorer's page: one state, drawn anew by `draw` whenever it changes. The state is in the
 * address too, so that a link is a what-if. Names of clips come from others: they reach the page as
 * text nodes only. */
(function () {
  "use strict";
  const FX = window.FRExplorer;
  const data = window.FR_EXPLORER;
  const $ = (id) => document.getElementById(id);
  const model = new FX.Model(data);
  const sample = new FX.Sample(data.sample);
  const cells = data.sample.cells.n.map((_, place) => sample.cell(place));
  const range = { low: data.model.range[0], high: data.model.range[1] };
  const count = (n) => n.toLocaleString("en");

  /* --- state ---------------------------------------------------------------------------------- */

  const state = { row: 0, encoder: "", preset: "", quality: 0, features: [], curve: "score" };
  const listeners = [];

  /** The score of these features as `encoder` would have made them, with this page's settings. */
  const shipped = (features) => model.shipped(features, state.encoder, state.preset, state.quality);

  function startAt(row) {
    const cell = cells[sample.ofCell[row]];
    Object.assign(state, { row, encoder: cell.encoder, preset: cell.preset, quality: cell.quality });
    state.features = sample.features(row);
  }

  /** Another encoder's settings: its default preset, and the same place on its own scale. */
  function settingsOf(name) {
    if (name === state.encoder) return { preset: state.preset, quality: state.quality };
    const [here, there] = [model.encoders.get(state.encoder), model.encoders.get(name)];
    let share = (state.quality - here.lo) / (here.hi - here.lo);
    if (here.higher_is_better !== there.higher_is_better) share = 1 - share;
    return { preset: there.default_preset, quality: Math.round(there.lo + share * (there.hi - there.lo)) };
  }

  /** A frame in the middle of the scores, where differences can be seen: the page's first. */
  function firstRow() {
    const scores = [...sample.ofCell.keys()].map((row) => sample.value(6, row));
    const middle = [...scores].sort((a, b) => a - b)[Math.floor(scores.length / 2)];
    return scores.indexOf(middle);
  }

  /* --- the address ---------------------------------------------------------------------------- */

  const cellName = (cell) => [cell.encoder, cell.preset, cell.quality, cell.size].join("/");

  function address() {
    const cell = cells[sample.ofCell[state.row]];
    const words = new URLSearchParams({
      clip: cell.clip,
      cell: cellName(cell),
      frame: sample.frame[state.row],
      encoder: state.encoder,
      preset: state.preset,
      quality: state.quality,
      features: state.features.join(","),
      curve: state.curve,
    });
    return `#${words}`;
  }

  /** Take from the address what this run has; the rest stays as it is. */
  function readAddress() {
    const words = new URLSearchParams(location.hash.slice(1));
    const cell = cells.find((c) => c.clip === words.get("clip") && cellName(c) === words.get("cell"));
    if (cell) {
      const rows = sample.rowsOf[cell.place];
      startAt(rows.find((row) => String(sample.frame[row]) === words.get("frame")) ?? rows[0]);
    }
    const encoder = model.encoders.get(words.get("encoder"));
    if (encoder) {
      const quality = Number(words.get("quality"));
      state.encoder = encoder.name;
      state.preset = encoder.presets.some(([name]) => name === words.get("preset"))
        ? words.get("preset")
        : encoder.default_preset;
      state.quality = words.get("quality") && Number.isFinite(quality)
        ? Math.min(Math.max(quality, encoder.lo), encoder.hi)
        : encoder.lo;
    }
    const features = (words.get("features") || "").split(",").map(Number);
    if (words.get("features") && features.length === 6 && features.every(possible)) state.features = features;
    if (["score", "difference"].includes(words.get("curve"))) state.curve = words.get("curve");
  }

  const possible = (value) => Number.isFinite(value) && Math.abs(value) <= data.logs.most;

  let written = "";
  function writeAddress() {
    written = address();
    // One entry of the history for the whole visit: a slider would else fill it.
    history.replaceState(null, "", written);
  }

  /* --- small helpers -------------------------------------------------------------------------- */

  function node(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function options(select, entries, chosen) {
    select.replaceChildren(...entries.map(([value, text]) => node("option", { value }, text)));
    select.value = String(chosen);
  }

  const nameOfCell = (cell) => {
    const encoder = model.encoders.get(cell.encoder);
    return [`${encoder.option.replace(/^-/, "")} ${cell.quality}`, cell.preset, cell.size].filter((x) => x).join(", ");
  };
  const frameName = (row) => (sample.frame[row] < 0 ? "whole encode" : String(sample.frame[row]));
  const unique = (values) => [...new Set(values)];
  const digits = (value) => Number(value.toFixed(6));

  /* --- the frame it starts from --------------------------------------------------------------- */

  let drawnRow = -1;
  function drawStart() {
    $("fx-reset").disabled = !changed().length;
    if (drawnRow === state.row) return;
    drawnRow = state.row;
    const cell = cells[sample.ofCell[state.row]];
    const ofClip = cells.filter((c) => c.clip === cell.clip);
    const ofEncoder = ofClip.filter((c) => c.encoder === cell.encoder);
    options($("fx-clip"), unique(cells.map((c) => c.clip)).map((name, i) => [i, name]),
      unique(cells.map((c) => c.clip)).indexOf(cell.clip));
    options($("fx-made"), unique(ofClip.map((c) => c.encoder)).map((name) => [name, name]), cell.encoder);
    options($("fx-cell"), ofEncoder.map((c) => [c.place, nameOfCell(c)]), cell.place);
    options($("fx-frame"), sample.rowsOf[cell.place].map((row) => [row, frameName(row)]), state.row);
    const held = sample.held(state.row);
    $("fx-held").textContent =
      `In the corpus ${data.teacher.title} gave ${held.vmaf.toFixed(3)}. A network that never saw this clip said ` +
      `${held.aware.toFixed(3)}, ${FX.signed(held.aware - held.vmaf)} off.`;
  }

  /** What is no longer as the frame has it. */
  function changed() {
    const cell = cells[sample.ofCell[state.row]];
    const own = sample.features(state.row);
    const names = model.names.filter((_, i) => state.features[i] !== own[i]);
    if (cell.encoder !== state.encoder) return [...names, "encoder"];
    return [...names, ...["preset", "quality"].filter((key) => cell[key] !== state[key])];
  }

  function moveTo(clip, encoder, like) {
    // The cell that is most like the one before: same encoder, nearest quality.
    const ofClip = cells.filter((c) => c.clip === clip);
    const near = ofClip.filter((c) => c.encoder === encoder);
    const best = (near.length ? near : ofClip).reduce((a, b) =>
      Math.abs(b.quality - like.quality) < Math.abs(a.quality - like.quality) ? b : a);
    startAt(sample.rowsOf[best.place][0]);
  }

  function wireStart() {
    const clips = unique(cells.map((c) => c.clip));
    const here = () => cells[sample.ofCell[state.row]];
    const set = (change) => () => { change(); draw(); };
    $("fx-clip").addEventListener("change", set(() => moveTo(clips[$("fx-clip").value], here().encoder, here())));
    $("fx-made").addEventListener("change", set(() => moveTo(here().clip, $("fx-made").value, here())));
    $("fx-cell").addEventListener("change", set(() => startAt(sample.rowsOf[$("fx-cell").value][0])));
    $("fx-frame").addEventListener("change", set(() => startAt(Number($("fx-frame").value))));
    $("fx-random").addEventListener("click", set(() => startAt(Math.floor(Math.random() * sample.count))));
    $("fx-reset").addEventListener("click", set(() => startAt(state.row)));
  }

  /* --- encoder, preset, quality --------------------------------------------------------------- */

  const KINDS = [
    ["checked", "Checked: ", "training rows, and held-out errors", (e) => e.rows > 0],
    ["blind", "Codec-blind: ", "no rows. The codec-blind network answers, never checked on these", (e) => e.rows === 0],
  ];

  function buildEncoders() {
    const host = $("fx-encoders");
    for (const [kind, title, meaning, has] of KINDS) {
      const own = data.encoders.filter(has);
      if (!own.length) continue;
      const set = node("fieldset", { class: `fx-slots fx-slots-${kind}` },
        node("legend", {}, FX.glyph(kind === "checked" ? "network" : "blind"), " ", node("b", {}, title), meaning));
      for (const encoder of own) {
        const input = node("input", { type: "radio", name: "fx-encoder", value: encoder.name });
        input.addEventListener("change", () => {
          Object.assign(state, settingsOf(encoder.name), { encoder: encoder.name });
          draw();
        });
        const rows = encoder.rows ? node("small", {}, ` ${count(encoder.rows)} rows`) : "";
        set.append(node("label", { class: "fx-slot" }, input, node("span", {}, encoder.name, rows)));
      }
      host.append(set);
    }
    const names = data.refused.length ? `, as ${data.refused.join(", ")}` : "";
    host.append(node("p", { class: "fx-note" }, node("b", {}, "✕ Refused: "),
      `any other encoder${names}. There is no default slot.`));
  }

  function drawCodec() {
    const encoder = model.encoders.get(state.encoder);
    document.querySelector(`[name=fx-encoder][value="${encoder.name}"]`).checked = true;
    const sorted = [...encoder.presets].sort((a, b) => a[1] - b[1]);
    const ends = (name, i) => (sorted.length < 2 ? "" : i === 0 ? " (fastest)" : i === sorted.length - 1 ? " (slowest)" : "");
    options($("fx-preset"), sorted.map(([name], i) => [name, name + ends(name, i)]), state.preset);
    const [best, worst] = encoder.higher_is_better ? [encoder.hi, encoder.lo] : [encoder.lo, encoder.hi];
    $("fx-quality-name").textContent = `Quality (${encoder.option})`;
    for (const id of ["fx-quality", "fx-quality-range"]) {
      Object.assign($(id), { min: encoder.lo, max: encoder.hi });
      if (document.activeElement !== $(id)) $(id).value = state.quality;
    }
    const seen = cells.filter((c) => c.encoder === encoder.name).map((c) => (c.quality - encoder.lo) / (encoder.hi - encoder.lo));
    $("fx-quality-range").style.setProperty("--a", seen.length ? Math.min(...seen) : 0);
    $("fx-quality-range").style.setProperty("--b", seen.length ? Math.max(...seen) : 0);
    $("fx-quality-range").setAttribute("aria-label", `Quality, ${encoder.option}, ${best} best, ${worst} worst`);
    const spread = (scores) => (Math.max(...scores) - Math.min(...scores)).toFixed(3);
    const presets = spread(encoder.presets.map(([name]) => model.shipped(state.features, state.encoder, name, state.quality)));
    const steps = [...Array(21).keys()].map((i) => encoder.lo + (i / 20) * (encoder.hi - encoder.lo));
    const qualities = spread(steps.map((q) => model.shipped(state.features, state.encoder, state.preset, q)));
    $("fx-scale").textContent =
      `${encoder.option} ${best} is best, ${worst} worst. With these features the whole scale moves the score by ` +
      `${qualities} points, the presets by ${presets}: the features say most already.`;
  }

  function wireCodec() {
    $("fx-preset").addEventListener("change", () => { state.preset = $("fx-preset").value; draw(); });
    for (const id of ["fx-quality", "fx-quality-range"])
      $(id).addEventListener("input", () => {
        const encoder = model.encoders.get(state.encoder);
        const value = $(id).value === "" ? NaN : Number($(id).value);
        const allowed = value >= encoder.lo && value <= encoder.hi;
        $(id).setAttribute("aria-invalid", String(!allowed));
        if (allowed) { state.quality = value; draw(); }
      });
  }

  /* --- sliders -------------------------------------------------------------------------------- */

  /** From where to where a slider goes: a quarter beyond the training range, not below zero. */
  const reach = model.domain.map(([low, high]) => {
    const more = (high - low || 1) / 4;
    return [Math.min(Math.max(0, low - more), low), high + more];
  });
  const sliders = [];

  function buildSliders() {
    model.names.forEach((name, i) => {
      const [low, high] = reach[i];
      const [from, to] = model.domain[i];
      const id = `fx-feature-${i}`;
      const slide = node("input", {
        type: "range", id: `${id}-range`, min: low, max: high, step: "any", "aria-label": `${name}, trained from ${from} to ${to}`,
      });
      slide.style.setProperty("--a", (from - low) / (high - low));
      slide.style.setProperty("--b", (to - low) / (high - low));
      const exact = node("input", { type: "number", id, step: "any", inputmode: "decimal" });
      const was = node("span", { class: "fx-was" });
      for (const input of [slide, exact])
        input.addEventListener("input", () => {
          const value = input.value === "" ? NaN : Number(input.value);
          exact.setAttribute("aria-invalid", String(!possible(value)));
          if (!possible(value)) return;
          state.features[i] = input === slide ? digits(value) : value;
          draw();
        });
      // An arrow moves by a hundredth of the trained range, whatever the browser thinks of "any".
      slide.addEventListener("keydown", (event) => {
        const way = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
        if (!way) return;
        event.preventDefault();
        const next = state.features[i] + (way * (to - from || 1)) / (event.shiftKey ? 1000 : 100);
        state.features[i] = digits(Math.min(Math.max(next, low), high));
        draw();
      });
      sliders.push({ slide, exact, was });
      $("fx-sliders").append(node("div", { class: "fx-slider" },
        node("label", { for: id }, name), exact, slide, was));
    });
  }

  function drawSliders() {
    const outside = new Set(model.outside(state.features));
    const own = sample.features(state.row);
    sliders.forEach(({ slide, exact, was }, i) => {
      const value = state.features[i];
      slide.value = value;
      if (document.activeElement !== exact) exact.value = value;
      const out = outside.has(model.names[i]);
      slide.parentElement.classList.toggle("fx-out", out);
      const [from, to] = model.domain[i];
      was.textContent = [
        out ? `▲ outside ${digits(from)} to ${digits(to)}` : "",
        value === own[i] ? "" : `the frame has ${own[i]}`,
      ].filter((x) => x).join("; ");
    });
  }

  /* --- scores --------------------------------------------------------------------------------- */

  function answers() {
    const formula = model.formula && model.formula(state.features);
    return { shipped: shipped(state.features), blind: model.blind(state.features), formula };
  }

  const trained = () => model.encoders.get(state.encoder).rows > 0;
  const residualsOf = (kind) => data.residuals[kind === "shipped" && trained() ? "aware" : "blind"];

  function drawScores(now) {
    const card = (kind, title, value, below) =>
      node("div", { class: `fx-score fx-score-${kind}` },
        node("div", { class: "fx-score-title" }, FX.glyph(kind), title),
        node("div", { class: "fx-score-value" }, value),
        node("div", { class: "fx-score-below" }, below));
    const exact = now.formula !== null;
    const apart = (score) => (exact ? `${FX.signed(score - now.formula)} to the formula` : "");
    $("fx-scores").replaceChildren(
      card("network", "Network, as shipped", now.shipped.toFixed(3),
        [apart(now.shipped), trained() ? "" : "codec-blind here"].filter((x) => x).join(", ") || "codec-aware"),
      card("blind", "Codec-blind network", now.blind.toFixed(3),
        exact ? apart(now.blind) : `${FX.signed(now.blind - now.shipped)} to the network`),
      exact
        ? card("formula", `Formula of ${data.teacher.title}`, now.formula.toFixed(3), "exact")
        : card("formula", "No formula", "none", data.no_formula));
  }

  /** Error bars of held-out frames around each network's score, and the formula at zero. */
  function drawApart(now) {
    const base = now.formula ?? now.shipped;
    const row = (kind, label) => {
      const bar = FX.bar(residualsOf(kind), now[kind]);
      const off = now[kind] - base;
      return {
        kind: kind === "shipped" ? "network" : "blind", label, value: off, text: FX.signed(off),
        low: off - bar.p95, high: off - bar.p05, note: `${label}: ${FX.signed(off)} points`,
      };
    };
    const rows = [row("shipped", "Network"), row("blind", "Codec-blind")];
    if (now.formula !== null)
      rows.push({ kind: "formula", label: "Formula", value: 0, text: "0.000", note: "Formula" });
    const most = FX.roundUp(Math.max(0.05, ...rows.flatMap((r) => [r.value, r.low ?? 0, r.high ?? 0].map(Math.abs))));
    const from = now.formula === null ? "the network" : "the formula";
    FX.dotRows($("fx-apart"), {
      rows,
      axis: { low: -most, high: most, zero: 0, label: `difference to ${from}, VMAF points` },
      label: rows.map((r) => `${r.label} ${r.text}`).join(", ") + `: points from ${from}.`,
    });
    const bar = FX.bar(residualsOf("shipped"), now.shipped);
    const width = data.residuals.aware.width;
    $("fx-bar").textContent =
      `Bars: where the teacher was for 90 % of ` +
      (bar.whole ? `all ${count(bar.n)} held-out frames` : `${count(bar.n)} held-out frames that scored ${bar.low} to ${bar.low + width}`) +
      `; the worst was ${bar.most.toFixed(3)} off.` +
      (trained() ? "" : ` For ${state.encoder} they are borrowed: it has no rows to be off on.`);
  }

  let spoken = 0;
  function speak(now) {
    clearTimeout(spoken);
    // A slider in motion is not read out at each step.
    spoken = setTimeout(() => {
      const outside = model.outside(state.features);
      $("fx-spoken").textContent =
        `Network ${now.shipped.toFixed(2)}, codec-blind ${now.blind.toFixed(2)}` +
        (now.formula === null ? "." : `, formula ${now.formula.toFixed(2)}.`) +
        (outside.length ? ` Outside the trained range: ${outside.join(", ")}.` : "");
    }, 500);
  }

  /* --- nearness ------------------------------------------------------------------------------- */

  function drawNear() {
    const { place, distance } = model.nearest(state.features, sample);
    const outside = model.outside(state.features);
    const near = data.nearness;
    const far = near && distance > near.p99;
    $("fx-warning").hidden = !outside.length && !far;
    $("fx-warning").textContent =
      "▲ Extrapolation: " +
      [outside.length ? `${outside.join(", ")} beyond the trained range` : "",
       far ? "farther from any training row than 99 % of held-out frames were from other clips" : ""].filter((x) => x).join("; ") +
      (model.formula ? ". Read the formula." : ".");
    const cell = cells[sample.ofCell[place]];
    $("fx-near-text").replaceChildren(
      distance < 1e-5 ? "This is a training row: " : `Nearest training row, ${distance.toFixed(3)} standard deviations away: `,
      node("bdi", {}, cell.clip), `, ${cell.encoder}, ${nameOfCell(cell)}, frame ${frameName(place)} `,
      `(of ${count(sample.count)} sampled).`);
    if (near)
      FX.strip($("fx-near"), {
        value: distance,
        marks: [{ at: near.p50, text: "half" }, { at: near.p95, text: "95 %" }, { at: near.p99, text: "99 % of held-out frames" }],
        label: `Distance to the nearest training row ${distance.toFixed(3)}; 99 % of held-out frames were within ${near.p99.toFixed(3)} of another clip.`,
      });
  }

  /* --- same features, other codec ------------------------------------------------------------- */

  function drawOthers(now) {
    const base = now.formula ?? now.shipped;
    const rows = data.encoders.filter((e) => e.rows > 0).map((encoder) => {
      const { preset, quality } = settingsOf(encoder.name);
      const off = model.shipped(state.features, encoder.name, preset, quality) - base;
      const bar = FX.bar(data.residuals.aware, off + base);
      const active = encoder.name === state.encoder;
      return {
        kind: "network", label: encoder.name, value: off, text: FX.signed(off), active,
        ...(active ? { low: off - bar.p95, high: off - bar.p05 } : {}),
        note: `${encoder.name}, ${preset}, ${encoder.option} ${quality}: ${FX.signed(off)}`,
      };
    });
    const blind = data.encoders.filter((e) => e.rows === 0);
    if (blind.length)
      rows.push({
        kind: "blind", label: `${blind.length} codec-blind`, value: now.blind - base,
        text: FX.signed(now.blind - base), active: !trained(), note: blind.map((e) => e.name).join(", "),
      });
    const most = FX.roundUp(Math.max(0.05, ...rows.flatMap((r) => [r.value, r.low ?? 0, r.high ?? 0].map(Math.abs))));
    const from = now.formula === null ? "the network" : "the formula";
    FX.dotRows($("fx-others"), {
      rows,
      axis: { low: -most, high: most, zero: 0, label: `difference to ${from}, VMAF points` },
      label: `Same features, other codec: ${rows.map((r) => `${r.label} ${r.text}`).join(", ")}.`,
    });
    const values = rows.map((r) => r.value);
    $("fx-others-text").textContent =
      `From lowest to highest ${(Math.max(...values) - Math.min(...values)).toFixed(3)} points` +
      (now.formula === null ? "." : ", where the formula knows no codec and gives one score.") +
      " Other encoders have their default preset and the same place on their own scale.";
  }

  /* --- curves --------------------------------------------------------------------------------- */

  const POINTS = 61;

  function drawCurves(now) {
    const difference = state.curve === "difference";
    const base = model.formula || ((features) => shipped(features));
    const curves = model.names.map((name, i) => {
      const [low, high] = [Math.min(reach[i][0], state.features[i]), Math.max(reach[i][1], state.features[i])];
      const lines = { formula: [], network: [], blind: [] };
      for (let p = 0; p < POINTS; p += 1) {
        const at = low + (p / (POINTS - 1)) * (high - low);
        const features = Object.assign([...state.features], { [i]: at });
        const zero = base(features);
        const scores = { network: shipped(features), blind: model.blind(features), ...(model.formula ? { formula: zero } : {}) };
        for (const [kind, score] of Object.entries(scores)) lines[kind].push([at, difference ? score - zero : score]);
      }
      return { name, i, low, high, lines };
    });
    const off = curves.flatMap((c) => Object.values(c.lines).flat().map(([, v]) => Math.abs(v)));
    const most = FX.roundUp(Math.max(0.05, ...off));
    const up = difference ? { low: -most, high: most } : range;
    for (const { name, i, low, high, lines } of curves) {
      const [from, to] = model.domain[i];
      const unit = difference ? "difference, VMAF points" : "score, VMAF";
      const first = lines.network[0][1], last = lines.network.at(-1)[1];
      FX.plot(curveHosts[i], {
        x: { low, high, label: name },
        y: { ...up, label: difference ? "points" : "VMAF" },
        bands: [[from, to]],
        cursor: state.features[i],
        series: ["formula", "blind", "network"].filter((k) => lines[k].length).map((kind) => ({ kind, points: lines[kind] })),
        dots: difference ? [] : [{ kind: "network", y: now.shipped, title: `now ${now.shipped.toFixed(3)}` }],
        pick: (x) => { state.features[i] = digits(x); draw(); },
        label: `${unit} along ${name}: network from ${first.toFixed(2)} at ${digits(low)} to ${last.toFixed(2)} at ${digits(high)}.`,
      });
    }
    document.querySelector(`[name=fx-curve][value=${state.curve}]`).checked = true;
  }

  let curveHosts = [];
  function buildCurves() {
    curveHosts = model.names.map(() => node("div", { class: "fx-chart" }));
    $("fx-curves").append(...curveHosts);
    const entries = [["network", "network, as shipped"], ["blind", "codec-blind"]];
    if (model.formula) entries.unshift(["formula", "formula"]);
    else $("fx-difference").textContent = "difference to the network";
    $("fx-legend").append(...entries.map(([kind, text]) =>
      node("span", { class: `fx-key fx-key-${kind}` }, node("i", { "aria-hidden": "true" }), text)));
    for (const input of document.querySelectorAll("[name=fx-curve]"))
      input.addEventListener("change", () => { state.curve = input.value; draw(); });
  }

  /* --- the ladder ----------------------------------------------------------------------------- */

  function drawLadder(now) {
    const start = cells[sample.ofCell[state.row]];
    const own = cells
      .filter((c) => ["clip", "encoder", "preset", "size"].every((key) => c[key] === start[key]))
      .sort((a, b) => a.quality - b.quality);
    const encoder = model.encoders.get(start.encoder);
    const across = { low: own[0].quality - 1, high: own.at(-1).quality + 1, ticks: own.map((c) => c.quality), label: `${start.encoder} ${encoder.option}` };
    const title = (c, value) => `${encoder.option} ${c.quality}: ${value.toFixed(3)}, mean of ${c.n} frames; click to start there`;
    const pick = (i) => { startAt(sample.rowsOf[own[i].place][0]); draw(); };
    $("fx-ladder-text").replaceChildren(
      node("bdi", {}, start.clip), `, ${[start.encoder, start.preset, start.size].filter((x) => x).join(", ")}. Squares: what ${data.teacher.title} gave, `,
      "mean of all frames of each encode; triangle: the what-if. Below, what held-out predictions were off. ",
      "Click on a point to start there.");
    const here = state.encoder === start.encoder ? [{ kind: "own", points: [[state.quality, now.shipped]], marks: true, bare: true, titles: ["the what-if"] }] : [];
    FX.plot($("fx-ladder"), {
      height: 240, x: stretched(across, here), y: { ...range, label: "VMAF, mean" },
      series: [{ kind: "formula", points: own.map((c) => [c.quality, c.vmaf]), marks: true, titles: own.map((c) => title(c, c.vmaf)), pick }, ...here],
      label: `${data.teacher.title} by quality: ${own.map((c) => `${c.vmaf.toFixed(1)} at ${c.quality}`).join(", ")}.`,
    });
    const off = own.map((c) => [c.quality, c.aware - c.vmaf]);
    const most = FX.roundUp(Math.max(0.02, ...off.map(([, v]) => Math.abs(v))));
    FX.plot($("fx-ladder-off"), {
      height: 150, x: stretched(across, here), y: { low: -most, high: most, label: "points off, held out" },
      series: [{ kind: "network", points: off, marks: true, titles: own.map((c, i) => title(c, off[i][1])), pick }],
      label: `Held-out prediction minus ${data.teacher.title}: ${off.map(([q, v]) => `${FX.signed(v)} at ${q}`).join(", ")}.`,
    });
  }

  const stretched = (across, here) => {
    const at = here.length ? here[0].points[0][0] : across.low;
    return { ...across, low: Math.min(across.low, at), high: Math.max(across.high, at) };
  };

  /* --- code ----------------------------------------------------------------------------------- */

  // JSON's strings are Python's, once its escapes of pairs are one character again.
  const python = (text) => JSON.stringify(text).replace(/\p{C}/gu, (c) => `\\U${c.codePointAt(0).toString(16).padStart(8, "0")}`);
  const shell = (text) => (/^[\w./-]+$/.test(text) ? text : `'${text.replace(/'/g, `'\\''`)}'`);

  function drawCode() {
    const order = model.names.join(", ");
    const lines = [
      "from fr_lib.release import Predictor", "",
      `model = Predictor.load(${python(data.folder)})`,
      `features = [[${state.features.join(", ")}]]  # ${order}`,
      `print(model.score(features, encoder=${python(state.encoder)}, quality=${state.quality}, preset=${python(state.preset)}))`,
    ];
    if (model.formula) lines.push("", "from fr_lib.corpus import vmaf_from_features", "print(vmaf_from_features(features))");
    $("fx-python").textContent = lines.join("\n");
    const names = model.names.map((name) => data.logs.names[name][0]);
    const folder = data.folder === data.released ? "" : `    --model-dir ${shell(data.folder)} \\\n`;
    $("fx-command").textContent = [
      `printf '%s\\n' Frame,${names.join(",")} 0,${state.features.join(",")} > frame.csv`,
      `.venv/bin/python -m fr_lib predict --encoder ${state.encoder} --quality ${state.quality} --preset ${shell(state.preset)} \\\n${folder}    frame.csv`,
    ].join("\n");
    $("fx-code-note").textContent = data.ships
      ? "From the project’s folder; both give what stands above."
      : "From the project’s folder. This model is marked as one that does not ship, so both refuse it and say why.";
  }

  async function copy(text, button) {
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Where a page of file:// may not, a selection still can.
      const area = node("textarea", { "aria-hidden": "true" });
      area.value = text;
      document.body.append(area);
      area.select();
      done = document.execCommand("copy");
      area.remove();
      button.focus();
    }
    const was = button.textContent;
    button.textContent = done ? "Copied" : "Select it and copy";
    setTimeout(() => { button.textContent = was; }, 1500);
  }

  function wireCode() {
    for (const button of document.querySelectorAll("#explorer [data-copy]"))
      button.addEventListener("click", () => copy($(button.dataset.copy).textContent, button));
    $("fx-link").addEventListener("click", () => copy(location.href, $("fx-link")));
  }

  /* --- together ------------------------------------------------------------------------------- */

  function drawBanner() {
    const said = [
      data.gate_passed ? "" : "The gate failed: this model does not ship.",
      data.synthetic ? "Synthetic rows: no encoder made these frames." : "",
    ].filter((x) => x);
    $("fx-banner").hidden = !said.length;
    $("fx-banner").textContent = said.join(" ");
  }

  let waiting = 0;
  /** Draw before the next picture: a slider may move several times until then. */
  function draw() {
    waiting = waiting || requestAnimationFrame(() => {
      waiting = 0;
      drawNow();
    });
  }

  function drawNow() {
    const now = answers();
    drawStart();
    drawCodec();
    drawSliders();
    drawScores(now);
    drawApart(now);
    drawNear();
    drawOthers(now);
    drawCurves(now);
    drawLadder(now);
    drawCode();
    speak(now);
    writeAddress();
    for (const listener of listeners) listener();
  }

  /** What the panel of logs needs of this page. */
  FX.page = {
    data, model, sample, node, $, range,
    shipped,
    settings: () => `${state.encoder}, ${state.preset}, ${model.encoders.get(state.encoder).option} ${state.quality}`,
    row: () => state.row,
    onDraw: (listener) => listeners.push(listener),
    take: (features) => { state.features = [...features]; draw(); $("fx-scores").scrollIntoView({ block: "nearest" }); },
  };

  $("explorer").hidden = false;
  drawBanner();
  buildEncoders();
  buildSliders();
  buildCurves();
  wireStart();
  wireCodec();
  wireCode();
  startAt(firstRow());
  readAddress();
  FX.wireLogs(FX.page);
  drawNow();
  window.addEventListener("hashchange", () => {
    if (location.hash === written) return;
    readAddress();
    draw();
  });
  let width = 0;
  new ResizeObserver(() => {
    // Charts are drawn at their width; only a new one needs them again.
    if (width && width !== $("explorer").clientWidth) draw();
    width = $("explorer").clientWidth;
  }).observe($("explorer"));
})();
