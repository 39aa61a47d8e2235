/* The arithmetic of the explorer: the two networks of the graph that ships, VMAF v0.6.1's formula,
 * and the distance to sampled frames. Nothing here knows the page, so tests and a browser's console
 * can use it alone: new FRExplorer.Model(FR_EXPLORER).shipped([...], "libx264", "medium", 28).
 *
 * Plain scripts, no modules: a page of file:// may load no module. */
(function (root) {
  "use strict";
  const FX = (root.FRExplorer = root.FRExplorer || {});

  const KINDS = { f4: Float32Array, f8: Float64Array, i4: Int32Array, u2: Uint16Array };

  /** Base64 of a little-endian array to that array; every browser's machine is little-endian. */
  FX.unpack = function (text, kind) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return new KINDS[kind](bytes.buffer);
  };

  /** The error function, exact to the last digits of a double.
   * All terms of this series have one sign, so nothing cancels (Abramowitz and Stegun 7.1.6). */
  FX.erf = function (x) {
    if (Math.abs(x) > 6) return Math.sign(x);
    let term = x;
    let sum = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n += 1) {
      term *= (2 * x * x) / (2 * n + 1);
      sum += term;
    }
    return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  };

  /* A slider's every step asks for a hundred thousand of them: a table of the error function, and
   * between its points the cubic of value and slope, which is known. Off by less than 1e-10. */
  const STEP = 1 / 128;
  const TABLE = Float64Array.from({ length: 6 / STEP + 2 }, (_, i) => FX.erf(i * STEP));
  const SLOPE = TABLE.map((_, i) => ((2 * STEP) / Math.sqrt(Math.PI)) * Math.exp(-((i * STEP) ** 2)));

  function erf(x) {
    const at = Math.abs(x) / STEP;
    if (!(at < 6 / STEP)) return Math.sign(x);
    const i = Math.floor(at);
    const t = at - i;
    const u = 1 - t;
    const value =
      u * u * (1 + 2 * t) * TABLE[i] + t * t * (3 - 2 * t) * TABLE[i + 1] +
      t * u * (u * SLOPE[i] - t * SLOPE[i + 1]);
    return x < 0 ? -value : value;
  }

  const gelu = (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2));
  const clip = (x, low, high) => Math.min(Math.max(x, low), high);

  function network(layers) {
    const own = layers.map((layer) => ({
      inputs: layer.inputs,
      outputs: layer.outputs,
      weight: FX.unpack(layer.weight, "f4"),
      bias: FX.unpack(layer.bias, "f4"),
    }));
    return function (x) {
      own.forEach((layer, depth) => {
        const y = new Float64Array(layer.outputs);
        for (let o = 0, at = 0; o < layer.outputs; o += 1) {
          let sum = layer.bias[o];
          for (let i = 0; i < layer.inputs; i += 1, at += 1) sum += layer.weight[at] * x[i];
          y[o] = depth < own.length - 1 ? gelu(sum) : sum;
        }
        x = y;
      });
      return x[0];
    };
  }

  /** VMAF v0.6.1: features rescaled, an RBF support-vector regression, the score scaled back. */
  function formula(given) {
    const weights = FX.unpack(given.weights, "f8");
    const vectors = FX.unpack(given.vectors, "f8");
    const width = given.slopes.length;
    return function (features) {
      const z = features.map((x, i) => x * given.slopes[i] + given.intercepts[i]);
      let sum = -given.rho;
      for (let s = 0, at = 0; s < weights.length; s += 1) {
        let square = 0;
        for (let i = 0; i < width; i += 1, at += 1) square += (z[i] - vectors[at]) ** 2;
        sum += weights[s] * Math.exp(-given.gamma * square);
      }
      return clip((sum - given.score_intercept) / given.score_slope, ...given.clip);
    };
  }

  FX.Model = class {
    constructor(data) {
      const model = data.model;
      this.names = model.features;
      this.domain = model.domain;
      this.range = model.range;
      this.encoders = new Map(data.encoders.map((e, slot) => [e.name, { ...e, slot }]));
      this.mean = FX.unpack(model.mean, "f4");
      this.std = FX.unpack(model.std, "f4");
      this.mask = FX.unpack(model.mask, "f4");
      this.norm = model.norm;
      this.networks = {
        aware: network(model.networks.aware),
        blind: network(model.networks.blind),
      };
      /** null where the corpus's teacher is no formula of these features. */
      this.formula = data.formula && formula(data.formula);
    }

    /** In float32, as in training, so that the network sees the same digits. */
    standardised(features) {
      return features.map((x, i) =>
        Math.fround(Math.fround(Math.fround(x) - this.mean[i]) / this.std[i]),
      );
    }

    block(encoder, preset, quality) {
      const known = this.encoders.get(encoder);
      const ordinal = known.presets.find(([name]) => name === preset)[1];
      const [low, high] = this.norm.crf;
      const block = new Float64Array(this.encoders.size + 2);
      block[known.slot] = 1;
      block[block.length - 2] = this.norm.preset_constant ?? ordinal / this.norm.preset_span;
      block[block.length - 1] = Math.fround((quality - low) / (high - low || 1));
      return block;
    }

    /** What the shipped file answers: its codec-aware network for a slot with training rows, its
     * codec-blind one for any other. */
    shipped(features, encoder, preset, quality) {
      const known = this.encoders.get(encoder);
      if (!this.mask[known.slot]) return this.blind(features);
      const input = [...this.standardised(features), ...this.block(encoder, preset, quality)];
      return clip(this.networks.aware(input), ...this.range);
    }

    blind(features) {
      return clip(this.networks.blind(this.standardised(features)), ...this.range);
    }

    /** Names of the features beyond the range of the training rows. */
    outside(features) {
      return this.names.filter((_, i) => !(features[i] >= this.domain[i][0] && features[i] <= this.domain[i][1]));
    }

    /** Place of the sampled frame that is nearest, and how many standard deviations away. */
    nearest(features, sample) {
      let best = Infinity;
      let place = -1;
      for (let row = 0; row < sample.count; row += 1) {
        let square = 0;
        for (let i = 0; i < 6; i += 1) {
          square += ((features[i] - sample.columns[i][row] / sample.units[i]) / this.std[i]) ** 2;
          if (square >= best) break;
        }
        if (square < best) [best, place] = [square, row];
      }
      return { place, distance: Math.sqrt(best) };
    }
  };

  /** The sampled held-out frames, in cells: a clip at one size, encoder, preset and quality. */
  FX.Sample = class {
    constructor(given) {
      Object.assign(this, given);
      this.columns = given.columns.map((column) => FX.unpack(column, "i4"));
      this.ofCell = FX.unpack(given.of_cell, "u2");
      this.frame = FX.unpack(given.frame, "i4");
      this.count = this.ofCell.length;
      this.rowsOf = given.cells.n.map(() => []);
      this.ofCell.forEach((cell, row) => this.rowsOf[cell].push(row));
    }

    value(column, row) {
      // Divided and rounded, so that what was 0.97 is 0.97 again.
      return Number((this.columns[column][row] / this.units[column]).toFixed(6));
    }

    features(row) {
      return [0, 1, 2, 3, 4, 5].map((i) => this.value(i, row));
    }

    cell(place) {
      const of = (name) => this.cells[name].names[this.cells[name].at[place]];
      return {
        place,
        clip: of("src"),
        encoder: of("encoder"),
        preset: of("preset"),
        size: of("size"),
        quality: this.cells.quality[place],
        n: this.cells.n[place],
        vmaf: this.cells.vmaf[place],
        aware: this.cells.aware[place],
      };
    }

    held(row) {
      return { vmaf: this.value(6, row), aware: this.value(7, row), blind: this.value(8, row) };
    }
  };

  /** The held-out residuals of an arm near a score: those of its ten points, or of all frames. */
  FX.bar = function (residuals, score) {
    const low = Math.min(Math.floor(score / residuals.width) * residuals.width, 100 - residuals.width);
    const bin = residuals.bins.find((b) => b.low === low);
    return { ...(bin || residuals.all), whole: !bin };
  };
})(typeof window === "undefined" ? globalThis : window);
