/* Charts of the explorer: inline SVG drawn at the width that it has, so that its text keeps its size
 * on a phone. Colours come from the style sheet by class, so a change of theme needs no redrawing. */
(function (root) {
  "use strict";
  const FX = (root.FRExplorer = root.FRExplorer || {});
  const SVG = "http://www.w3.org/2000/svg";

  /** An SVG element; text children become text nodes, so no name can be markup. */
  function el(tag, attributes = {}, ...children) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes))
      if (value !== null && value !== undefined) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function canvas(host, height, label) {
    const width = Math.max(240, Math.floor(host.clientWidth));
    // The picture is one thing to a screen reader: the label says what is seen.
    const svg = el("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
    host.replaceChildren(svg);
    return { svg, width };
  }

  /** Round numbers from low to high, about `count` of them. */
  FX.ticks = function (low, high, count) {
    const raw = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].find((s) => s * power >= raw) * power;
    const found = [];
    for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at += 1)
      found.push(Number((at * step).toPrecision(12)));
    return found;
  };

  /** The least of 1, 2, 5 times a power of ten that holds a size: an axis that does not tremble. */
  FX.roundUp = function (size) {
    const power = 10 ** Math.floor(Math.log10(size));
    return [1, 2, 5, 10].find((s) => s * power >= size * (1 - 1e-12)) * power;
  };

  /** A number with its sign, the real minus, and no minus before zero. */
  FX.signed = function (value, digits = 3) {
    const text = Math.abs(value).toFixed(digits);
    if (Number(text) === 0) return text;
    return `${value < 0 ? "−" : "+"}${text}`;
  };

  const R = 5;
  const SHAPES = {
    network: `M0-${R + 1}L${R + 1} 0L0 ${R + 1}L-${R + 1} 0Z`,
    blind: `M-${R} 0A${R} ${R} 0 1 0 ${R} 0A${R} ${R} 0 1 0-${R} 0Z`,
    formula: `M-${R}-${R}H${R}V${R}H-${R}Z`,
    own: `M0-${R + 1}L${R + 1} ${R}H-${R + 1}Z`,
  };
  function mark(kind, x, y, title, extra = "") {
    const path = el("path", { d: SHAPES[kind], class: `fx-mark fx-${kind} ${extra}`, transform: `translate(${x} ${y})` });
    if (title) path.append(el("title", {}, title));
    return path;
  }

  /** The shape of a kind, for legends and headings. */
  FX.glyph = function (kind) {
    const svg = el("svg", { width: 16, height: 16, viewBox: "-8 -8 16 16", "aria-hidden": "true", class: "fx-glyph" });
    svg.append(mark(kind, 0, 0));
    return svg;
  };

  const shown = (value) => String(value).replace("-", "−");

  function axisBelow(svg, x, ticks, y, width, label) {
    for (const tick of ticks)
      svg.append(
        el("line", { class: "fx-tick", x1: x(tick), x2: x(tick), y1: y, y2: y + 4 }),
        el("text", { class: "fx-text", x: x(tick), y: y + 17, "text-anchor": "middle" }, shown(tick)),
      );
    svg.append(el("text", { class: "fx-text fx-title", x: width, y: y + 33, "text-anchor": "end" }, label));
  }

  /** One dot per row on a common axis, which is the distance from zero or a score.
   *
   * rows: { label, value, low, high, kind, active, note }; low and high are the ends of an error bar.
   * axis: { low, high, label, zero } with `zero` where a line is to stand. */
  FX.dotRows = function (host, { rows, axis, label }) {
    const step = 26;
    const longest = Math.max(...rows.map((row) => row.label.length));
    const left = Math.min(16 + 7.2 * longest, 190);
    const height = rows.length * step + 44;
    const { svg, width } = canvas(host, height, label);
    const right = 64;
    const x = (v) => left + ((v - axis.low) / (axis.high - axis.low)) * (width - left - right);
    const bottom = rows.length * step + 4;
    for (const tick of FX.ticks(axis.low, axis.high, width < 480 ? 3 : 6))
      svg.append(el("line", { class: "fx-grid-line", x1: x(tick), x2: x(tick), y1: 2, y2: bottom }));
    if (axis.zero !== undefined)
      svg.append(el("line", { class: "fx-zero", x1: x(axis.zero), x2: x(axis.zero), y1: 2, y2: bottom }));
    rows.forEach((row, i) => {
      const y = i * step + 16;
      if (row.active) svg.append(el("rect", { class: "fx-active", x: 0, y: y - 13, width, height: step, rx: 4 }));
      svg.append(el("text", { class: `fx-text ${row.active ? "fx-strong" : ""}`, x: left - 10, y: y + 4, "text-anchor": "end" }, row.label));
      if (row.low !== undefined) {
        const [from, to] = [x(row.low), x(row.high)].map((at) => Math.min(Math.max(at, left), width - right));
        svg.append(el("line", { class: `fx-bar fx-${row.kind}`, x1: from, x2: to, y1: y, y2: y }));
        for (const end of [from, to])
          svg.append(el("line", { class: `fx-bar fx-${row.kind}`, x1: end, x2: end, y1: y - 5, y2: y + 5 }));
      }
      svg.append(mark(row.kind, x(row.value), y, row.note));
      svg.append(el("text", { class: "fx-text fx-number", x: width - 2, y: y + 4, "text-anchor": "end" }, row.text));
    });
    axisBelow(svg, x, FX.ticks(axis.low, axis.high, width < 480 ? 3 : 6), bottom, width - right, axis.label);
  };

  /** Lines over x: curves of one feature, ladders, frames of a log.
   *
   * series: { kind, points: [[x, y], ...], marks, titles }; bands: [from, to] of x that are shaded;
   * cursor: x of a line, with `dots` { kind, y } on it; pick: called with x where one clicks. */
  FX.plot = function (host, spec) {
    const { x: across, y: up, series, height = 190 } = spec;
    const { svg, width } = canvas(host, height, spec.label);
    const [left, right, top, foot] = [50, 12, 24, 40];
    const x = (v) => left + ((v - across.low) / (across.high - across.low || 1)) * (width - left - right);
    const y = (v) => {
      const share = (v - up.low) / (up.high - up.low || 1);
      return height - foot - Math.min(Math.max(share, 0), 1) * (height - top - foot);
    };
    for (const [from, to] of spec.bands || [])
      if (to > from)
        svg.append(el("rect", { class: "fx-band", x: x(from), width: x(to) - x(from), y: top, height: height - top - foot }));
    for (const tick of FX.ticks(up.low, up.high, height < 150 ? 3 : 4))
      svg.append(
        el("line", { class: tick === 0 && up.low < 0 ? "fx-zero" : "fx-grid-line", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }),
        el("text", { class: "fx-text", x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, shown(tick)),
      );
    axisBelow(svg, x, across.ticks || FX.ticks(across.low, across.high, width < 380 ? 4 : 7), height - foot, width - right, across.label);
    svg.append(el("text", { class: "fx-text fx-title", x: 0, y: 12 }, up.label));
    if (spec.cursor !== undefined)
      svg.append(el("line", { class: "fx-cursor", x1: x(spec.cursor), x2: x(spec.cursor), y1: top, y2: height - foot }));
    for (const line of series) {
      if (!line.bare)
        svg.append(
          el("polyline", {
            class: `fx-line fx-${line.kind}`,
            points: line.points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" "),
          }),
        );
      if (line.marks)
        line.points.forEach(([a, b], i) => {
          const dot = mark(line.kind, x(a), y(b), line.titles?.[i]);
          if (line.pick) {
            dot.classList.add("fx-pick");
            dot.addEventListener("click", () => line.pick(i));
          }
          svg.append(dot);
        });
    }
    for (const dot of spec.dots || []) svg.append(mark(dot.kind, x(spec.cursor), y(dot.y), dot.title));
    if (spec.pick) {
      svg.classList.add("fx-pickable");
      svg.addEventListener("click", (event) => {
        const share = (event.clientX - svg.getBoundingClientRect().left - left) / (width - left - right);
        spec.pick(across.low + Math.min(Math.max(share, 0), 1) * (across.high - across.low));
      });
    }
  };

  /** Where a distance lies among those of held-out frames: a strip with three marks. */
  FX.strip = function (host, { value, marks, label }) {
    const { svg, width } = canvas(host, 54, label);
    const high = Math.max(value * 1.1, marks.at(-1).at * 1.25);
    // A square root, since the far end is long and what is near is what is read.
    const x = (v) => 8 + Math.sqrt(v / high) * (width - 16);
    const ends = [0, ...marks.map((m) => m.at), high];
    for (let i = 0; i + 1 < ends.length; i += 1)
      svg.append(el("rect", { class: `fx-zone fx-zone-${i}`, x: x(ends[i]), width: Math.max(x(ends[i + 1]) - x(ends[i]), 0), y: 14, height: 10 }));
    let free = 0;
    for (const { at, text } of marks) {
      svg.append(el("line", { class: "fx-tick", x1: x(at), x2: x(at), y1: 12, y2: 28 }));
      const half = text.length * 3.3;
      const place = Math.min(Math.max(x(at), free + half, half), width - half);
      svg.append(el("text", { class: "fx-text", x: place, y: 42, "text-anchor": "middle" }, text));
      free = place + half + 6;
    }
    svg.append(mark("network", x(value), 19));
  };
})(typeof window === "undefined" ? globalThis : window);
