/* Logs of libvmaf and ffmpeg-quality-metrics (JSON, XML, CSV), read as fr_lib.corpus.logs reads
 * them: the newest name of each feature counts, and a frame without one is refused, not guessed. */
(function (root) {
  "use strict";
  const FX = (root.FRExplorer = root.FRExplorer || {});

  class LogError extends Error {}
  FX.LogError = LogError;

  const short = (text) => (String(text).length > 60 ? `${String(text).slice(0, 60)}…` : String(text));
  // A number as C prints it; the empty text would be 0 to JavaScript.
  const number = (text) => (text.trim() && !/^[-+]?0[xob]/i.test(text.trim()) ? Number(text) : NaN);

  // A string, which stays what it is, or a number that C or Python prints and JSON has not.
  const TOKEN = /"[^"\\]*(?:\\[\s\S][^"\\]*)*"?|-?\b(?:nan|inf|NaN|Infinity)\b/g;

  function parsed(text) {
    try {
      return JSON.parse(text);
    } catch {
      try {
        return JSON.parse(text.replace(TOKEN, (t) => (t.startsWith('"') ? t : "null")));
      } catch (broken) {
        throw new LogError(`broken JSON (${short(broken.message)})`);
      }
    }
  }

  function json(text) {
    const log = parsed(text);
    if (log === null || typeof log !== "object" || Array.isArray(log))
      throw new LogError("JSON that is no object");
    if (!("frames" in log) && Array.isArray(log.vmaf))
      return { form: "ffmpeg-quality-metrics JSON", frames: log.vmaf, count: "n", first: 1 };
    if (!Array.isArray(log.frames))
      throw new LogError(`JSON without a list of frames (it has ${short(Object.keys(log).join(", ") || "nothing")})`);
    // libvmaf's Python library writes the metrics into the frames themselves.
    const bare = "executorId" in log;
    const frames = log.frames.map((f) => (bare ? f : { frameNum: f?.frameNum, ...f?.metrics }));
    return { form: "libvmaf JSON", frames, count: "frameNum", first: 0 };
  }

  function xml(text) {
    // Entities are declared in a document type, and a few lines of them unfold to gigabytes.
    if (/<!DOCTYPE/i.test(text)) throw new LogError("XML with a document type (DOCTYPE)");
    const page = new DOMParser().parseFromString(text, "application/xml");
    if (page.querySelector("parsererror")) throw new LogError("broken XML");
    const name = page.documentElement.nodeName;
    if (!["VMAF", "result"].includes(name))
      throw new LogError(`XML of something else (its root is ${short(name)})`);
    const frames = [...page.getElementsByTagName("frame")].map((element) =>
      Object.fromEntries([...element.attributes].map((a) => [a.name, number(a.value)])),
    );
    return { form: "libvmaf XML", frames, count: "frameNum", first: 0 };
  }

  function csv(text) {
    const lines = text.split(/\r\n|\r|\n/).filter((line) => line);
    const fields = (line) => line.split(",").map((field) => field.trim().replace(/^"(.*)"$/, "$1"));
    const header = fields(lines[0]);
    const forms = { Frame: ["libvmaf CSV", 0], n: ["ffmpeg-quality-metrics CSV", 1] };
    if (!Object.hasOwn(forms, header[0]))
      throw new LogError(`CSV of something else (its columns are ${short(header.join(", "))})`);
    const named = header.filter((name) => name);
    const twice = named.find((name, i) => named.indexOf(name) !== i);
    if (twice) throw new LogError(`broken CSV (the column ${short(twice)} twice)`);
    const frames = lines.slice(1).map((line, i) => {
      const values = fields(line);
      if (values.length !== header.length)
        throw new LogError(`broken CSV (line ${i + 2} has ${values.length} fields, the first ${header.length})`);
      // A trailing comma, as libvmaf writes, makes a column without a name.
      return Object.fromEntries(header.map((name, c) => [name, number(values[c])]).filter(([name]) => name));
    });
    const [form, first] = forms[header[0]];
    return { form, frames, count: header[0], first };
  }

  function frameNumbers(log) {
    const given = log.frames.map((frame) => frame?.[log.count]);
    if (given.every((n) => n === undefined || n === null)) return given.map((_, i) => i);
    let before = -1;
    return given.map((n, place) => {
      const at = n - log.first;
      if (typeof n !== "number" || !Number.isSafeInteger(at) || at <= before)
        throw new LogError(`frame ${place}: its number is ${short(n)}; allowed: whole numbers that ascend`);
      before = at;
      return at;
    });
  }

  /** Text of a log to { form, numbers, features: [6 per frame], vmaf: a number per frame or null }.
   * @param given the `logs` of the data: under which names a feature has been written, newest first.
   * @throws {LogError} with what was found, for the user's eyes. */
  FX.readLog = function (text, given) {
    const body = text.replace(/^\ufeff/, "").trim();
    if (!body) throw new LogError("nothing in it");
    const log = body.startsWith("{") ? json(body) : body.startsWith("<") ? xml(body) : csv(body);
    if (!log.frames.length) throw new LogError(`${log.form} with no frames`);
    const names = new Set(log.frames.flatMap((frame) => Object.keys(frame ?? {})));
    const numbers = frameNumbers(log);
    const real = (value) => typeof value === "number" && Math.abs(value) <= given.most;
    const columns = Object.entries(given.names).map(([feature, known]) => {
      const name = known.find((k) => names.has(k));
      if (!name) throw new LogError(`${log.form} without ${feature}: it needs all six features in each frame`);
      return log.frames.map((frame, place) => {
        const value = frame?.[name];
        if (!real(value))
          throw new LogError(`frame ${numbers[place]}: ${feature} is ${short(value ?? "missing")}; allowed: a number`);
        return value;
      });
    });
    const own = ["vmaf", "VMAF_score"].find((name) => names.has(name));
    const scores = own ? log.frames.map((frame) => frame?.[own]) : [];
    return {
      form: log.form,
      numbers,
      features: numbers.map((_, place) => columns.map((column) => column[place])),
      vmaf: scores.length && scores.every(real) ? scores : null,
    };
  };

  const MOST_BYTES = 200e6;

  /** The text of a file, unpacked where it is gzip. */
  FX.textOf = async function (file) {
    const head = new Uint8Array(await file.slice(0, 2).arrayBuffer());
    const packed = head[0] === 0x1f && head[1] === 0x8b;
    const stream = packed ? file.stream().pipeThrough(new DecompressionStream("gzip")) : file.stream();
    const parts = [];
    let size = 0;
    const reader = stream.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      size += value.length;
      // A file of zeros packs a thousandfold; the page is not to fill the memory with it.
      if (size > MOST_BYTES) throw new LogError(`more than ${MOST_BYTES / 1e6} MB; use the command`);
      parts.push(value);
    }
    try {
      // Another encoding is refused, as by the command, and not guessed.
      return new TextDecoder("utf-8", { fatal: true }).decode(await new Blob(parts).arrayBuffer());
    } catch {
      throw new LogError("text of another encoding than UTF-8, or no text");
    }
  };
})(typeof window === "undefined" ? globalThis : window);
