/* The panel that scores a log: every frame by the network, the formula and the log's own score. */
(function (root) {
  "use strict";
  const FX = (root.FRExplorer = root.FRExplorer || {});
  // More lines than these help nobody on a page; the file that can be saved has all.
  const MOST_LINES = 200;
  const MOST_POINTS = 1500;

  FX.wireLogs = function (page) {
    const { $, node, model, data } = page;
    let log = null;

    function say(text, wrong = false) {
      $("fx-log-said").textContent = text;
      $("fx-log-said").classList.toggle("fx-wrong", wrong);
    }

    function read(text) {
      log = null;
      if (!text.trim()) say("");
      else
        try {
          log = FX.readLog(text, data.logs);
        } catch (fault) {
          if (!(fault instanceof FX.LogError)) throw fault;
          say(`Not read: ${fault.message}.`, true);
        }
      show();
    }

    function scored() {
      return log.numbers.map((frame, i) => {
        const features = log.features[i];
        const formula = model.formula ? model.formula(features) : null;
        const own = log.vmaf ? log.vmaf[i] : null;
        return { frame, features, network: page.shipped(features), formula, own, outside: model.outside(features) };
      });
    }

    const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

    function summary(frames) {
      const n = frames.length;
      const said = [`${log.form}, ${n.toLocaleString("en")} frame${n === 1 ? "" : "s"} as ${page.settings()}. Network mean ${mean(frames.map((f) => f.network)).toFixed(3)}`];
      if (model.formula) {
        const off = frames.map((f) => f.network - f.formula);
        said.push(`formula ${mean(frames.map((f) => f.formula)).toFixed(3)}, difference ${FX.signed(mean(off))}, largest of a frame ${Math.max(...off.map(Math.abs)).toFixed(3)}`);
      }
      const sentences = [said.join("; ") + "."];
      if (log.vmaf) {
        const own = mean(log.vmaf).toFixed(3);
        const apart = model.formula && mean(frames.map((f) => Math.abs(f.own - f.formula)));
        sentences.push(
          !model.formula ? `The log’s own vmaf: ${own}.`
            : apart <= data.logs.same_teacher ? `The log’s own vmaf, ${own}, agrees with the formula.`
              : `The log’s own vmaf, ${own}, is not that of ${data.teacher.title}: ${apart.toFixed(3)} apart on average.`);
      } else sentences.push("The log carries no vmaf of its own.");
      sentences.push(log.vmaf ? "In the pictures: network ◆, the log’s own ▲" + (model.formula ? ", formula ■." : ".") : "");
      const out = frames.filter((f) => f.outside.length).length;
      if (out) sentences.push(`${out.toLocaleString("en")} of them lie outside the trained range.`);
      return sentences.filter((x) => x).join(" ");
    }

    /** At most so many points of a line: of each stretch the one that is farthest off. */
    function thinned(points) {
      const each = Math.ceil(points.length / MOST_POINTS);
      const kept = [];
      for (let i = 0; i < points.length; i += each)
        kept.push(points.slice(i, i + each).reduce((a, b) => (Math.abs(b[1]) > Math.abs(a[1]) ? b : a)));
      return kept;
    }

    function charts(frames) {
      const last = frames.at(-1).frame;
      const across = { low: frames[0].frame, high: Math.max(last, frames[0].frame + 1), label: "frame" };
      const line = (kind, value) => ({ kind, points: thinned(frames.map((f) => [f.frame, value(f)])), marks: frames.length < 40 });
      const lines = [line("network", (f) => f.network)];
      if (log.vmaf) lines.unshift(line("own", (f) => f.own));
      if (model.formula) lines.unshift(line("formula", (f) => f.formula));
      FX.plot($("fx-log-scores"), { x: across, y: { ...page.range, label: "VMAF" }, series: lines, height: 200, label: "Scores of each frame of the log." });
      const off = [];
      if (model.formula) off.push(line("network", (f) => f.network - f.formula));
      if (log.vmaf) off.push(line("own", (f) => f.own - (f.formula ?? f.network)));
      $("fx-log-off").hidden = !off.length;
      if (!off.length) return;
      const most = FX.roundUp(Math.max(0.02, ...off.flatMap((l) => l.points.map(([, v]) => Math.abs(v)))));
      FX.plot($("fx-log-off"), {
        x: across, y: { low: -most, high: most, label: `points from the ${model.formula ? "formula" : "network"}` }, series: off, height: 150,
        label: `Difference to the ${model.formula ? "formula" : "network"} of each frame, within ${most} points.`,
      });
    }

    const COLUMNS = [
      ["frame", (f) => String(f.frame)],
      ["network", (f) => f.network.toFixed(3)],
      ["formula", (f) => f.formula?.toFixed(3) ?? ""],
      ["network − formula", (f) => (f.formula === null ? "" : FX.signed(f.network - f.formula))],
      ["log’s own", (f) => f.own?.toFixed(3) ?? ""],
      ["own − formula", (f) => (f.own === null || f.formula === null ? "" : FX.signed(f.own - f.formula))],
      ["outside", (f) => f.outside.join(", ")],
    ];

    function table(frames) {
      const columns = COLUMNS.filter(([, text], i) => !i || frames.some((f) => text(f)));
      const head = node("tr", {}, ...columns.map(([name]) => node("th", { scope: "col" }, name)), node("th", { scope: "col" }, "sliders"));
      const body = frames.slice(0, MOST_LINES).map((f) => {
        const take = node("button", { type: "button", "aria-label": `Put frame ${f.frame} on the sliders` }, "take");
        take.addEventListener("click", () => page.take(f.features));
        return node("tr", {}, ...columns.map(([, text]) => node("td", {}, text(f))), node("td", {}, take));
      });
      const more = frames.length - body.length;
      const caption = node("caption", {}, more > 0 ? `The first ${MOST_LINES} frames; ${more.toLocaleString("en")} more are in the CSV.` : "Every frame.");
      $("fx-log-table").replaceChildren(caption, node("thead", {}, head), node("tbody", {}, ...body));
    }

    function save(frames) {
      const head = ["frame", "network", "formula", "own", ...model.names];
      const lines = frames.map((f) => [f.frame, f.network, f.formula ?? "", f.own ?? "", ...f.features].join(","));
      URL.revokeObjectURL($("fx-log-save").href);
      $("fx-log-save").href = URL.createObjectURL(new Blob([[head.join(","), ...lines, ""].join("\n")], { type: "text/csv" }));
    }

    let shownAs = "";
    function show() {
      $("fx-log-result").hidden = !log;
      shownAs = page.settings();
      if (!log) return;
      const frames = scored();
      say(summary(frames));
      charts(frames);
      table(frames);
      save(frames);
    }

    async function readFile(file) {
      try {
        const text = await FX.textOf(file);
        // A long text in a text area makes a browser slow; the start says which file it is.
        $("fx-log").value = text.length > 20000 ? `${text.slice(0, 2000)}\n… (${file.name})` : text;
        read(text);
      } catch (fault) {
        log = null;
        show();
        say(`Not read: ${fault instanceof FX.LogError ? fault.message : "the file is broken or cannot be opened"}.`, true);
      }
    }

    /** The sampled frames of the encode, as libvmaf would have written them. */
    function example() {
      const rows = page.sample.rowsOf[page.sample.ofCell[page.row()]];
      const names = model.names.map((name) => data.logs.names[name][0]);
      const lines = rows.map((row, i) => [Math.max(page.sample.frame[row], i), ...page.sample.features(row), page.sample.held(row).vmaf].join(","));
      return [`Frame,${names.join(",")},vmaf`, ...lines, ""].join("\n");
    }

    $("fx-log").addEventListener("input", () => read($("fx-log").value));
    $("fx-file").addEventListener("change", () => $("fx-file").files[0] && readFile($("fx-file").files[0]));
    $("fx-example").addEventListener("click", () => {
      $("fx-log").value = example();
      read($("fx-log").value);
    });
    $("fx-clear").addEventListener("click", () => {
      $("fx-log").value = $("fx-file").value = "";
      read("");
    });
    const drop = $("fx-drop");
    for (const [event, over] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]])
      drop.addEventListener(event, (e) => {
        // Without this the browser would leave the page and open the file.
        e.preventDefault();
        drop.classList.toggle("fx-over", over);
      });
    drop.addEventListener("drop", (e) => e.dataTransfer.files[0] && readFile(e.dataTransfer.files[0]));
    // Another codec is another score of each frame; sliders change none of them.
    page.onDraw(() => { if (log && page.settings() !== shownAs) show(); });
  };
})(typeof window === "undefined" ? globalThis : window);
