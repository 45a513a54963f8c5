"use strict";
const at = id => document.getElementById(id);
// Text is only ever set as text: nothing a producer writes becomes markup.
const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};
const count = value => value == null ? "–" : value.toLocaleString("en").replace(/,/g, "\u202f");
const fixed = (value, digits) => value == null ? "–" : value.toFixed(digits);
const percent = value => value == null ? "–" : value.toFixed(1) + " %";
const micros = value => value == null ? "–" : value < 1000 ? value.toFixed(1) + " µs" : (value / 1000).toFixed(1) + " ms";
const span = seconds => {
  const [d, h, m, s] = [86400, 3600, 60, 1].map((unit, i, all) => Math.floor((i ? seconds % all[i - 1] : seconds) / unit));
  return d ? `${d} d ${h} h` : h ? `${h} h ${m} min` : m ? `${m} min ${s} s` : `${s} s`;
};
const tile = (figure, label) => {
  const node = make("div", "tile");
  node.append(make("b", "", figure), make("span", "", label));
  return node;
};
const fact = (figure, label) => {
  const node = make("div");
  node.append(make("b", "", figure), make("span", "", label));
  return node;
};
const SIGNALS = { "GO": "ok", "WAIT": "wait", "NO-GO": "fail" };

function spark(values) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", "0 0 119 1");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "the newest confidences, from 0 to 1");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  const start = 120 - values.length;
  line.setAttribute("points", values.map((value, i) => `${start + i},${(1 - value).toFixed(4)}`).join(" "));
  svg.append(line);
  return svg;
}

function card(model, common) {
  const node = make("section", "card");
  const head = make("header");
  const signal = model.signal || "WAIT";
  head.append(make("h3", "", model.name), make("span", "pill " + SIGNALS[signal], signal));
  const mode = !model.loaded ? "not loaded" : model.shadow ? "shadow: reports, never votes" : "votes";
  node.append(head, make("div", "soft small", `${mode} · weight ${fixed(model.weight, 4)} · ${micros(model.time_us.p50)} per prediction`));
  const actions = model.actions || { BUY: 0, SELL: 0, HOLD: 0 };
  const facts = make("div", "facts");
  const confidence = model.confidence || {};
  facts.append(
    fact(count(model.predictions ?? 0), "votes"), fact(fixed(confidence.mean, 3), "confidence"), fact(fixed(confidence.std, 3), "std"));
  node.append(facts);
  const share = make("div", "share");
  const legend = make("div", "legend");
  for (const [name, kind] of [["BUY", "buy"], ["SELL", "sell"], ["HOLD", "hold"]]) {
    const part = model.predictions ? actions[name] * 100 / model.predictions : 0;
    const bar = make("i", kind);
    bar.style.width = part + "%";
    share.append(bar);
    const word = make("span");
    word.append(make("i", kind), `${name} ${model.predictions ? part.toFixed(1) + " %" : "–"}`);
    legend.append(word);
  }
  node.append(share, legend);
  if (model.recent && model.recent.length > 1) node.append(spark(model.recent));
  const why = make("ul", "why");
  for (const [reason, times] of Object.entries(model.inactive_reasons || {})) why.append(make("li", "", `inactive ${count(times)} times: ${reason}`));
  // What holds for every model stands above all of them.
  for (const reason of (model.reasons || []).filter(reason => !common.includes(reason))) why.append(make("li", "", reason));
  if (why.childElementCount) node.append(why);
  return node;
}

let before = null;
function show(now) {
  document.title = `${now.ready ? "READY" : "NOT READY"} · QSC`;
  const state = at("state");
  state.textContent = !now.healthy ? "HANGS" : now.ready ? "READY" : "NOT READY";
  state.className = "pill big " + (!now.healthy ? "fail" : now.ready ? "ok" : "wait");
  at("about").textContent = `${new Date(now.now_ms).toISOString().slice(0, 19)}Z · ${now.source}`;
  const rate = before && now.now_ms > before.now_ms && now.events >= before.events
    ? (now.events - before.events) * 1000 / (now.now_ms - before.now_ms) : null;
  const tiles = [
    tile(count(now.events), rate == null ? "events" : `events, ${count(Math.round(rate))} a second`),
    tile(count(now.rejects), "rejected"),
    tile(micros(now.stages_us.decide.p50), `per decision, p99 ${micros(now.stages_us.decide.p99)}`),
    tile(percent(now.agreement_pct), "agreement of the models"),
    tile(percent(now.hard_disagreement_pct), "hard disagreement: BUY and SELL"),
    ...Object.entries(now.sides).filter(([side, n]) => n || ["BUY", "SELL", "HOLD"].includes(side))
      .map(([side, n]) => tile(count(n), side.replaceAll("_", " "))),
  ];
  if (now.stream) {
    tiles.push(tile(count(now.stream.lag), "entries not yet settled"), tile(count(now.stream.settled), "intents settled"));
    for (const [name, label] of [["dead", "dead letters"], ["lost", "entries lost unread"], ["reconnects", "reconnects"], ["leases_lost", "leases lost"]])
      if (now.stream[name]) tiles.push(tile(count(now.stream[name]), label));
  }
  at("tiles").replaceChildren(...tiles);
  const reasons = [...now.reasons, ...now.loosened.map(rule => `loosened rule: ${rule}`)];
  at("reasons").hidden = !reasons.length;
  at("reasons").replaceChildren(...reasons.map(reason => make("li", "", reason)));
  at("models").replaceChildren(...now.models.map(model => card(model, now.reasons)));
  at("stages").replaceChildren(...["parse", "bind", "decide", "write", "settle"].filter(name => now.stages_us[name].count || name !== "settle").map(name => {
    const stage = now.stages_us[name];
    const row = make("tr");
    row.append(make("td", "", name), make("td", "n", count(stage.count)), make("td", "n", micros(stage.p50)), make("td", "n", micros(stage.p99)));
    return row;
  }));
  at("findings").replaceChildren(...now.findings.map(finding => {
    const row = make("tr");
    const cell = make("td");
    cell.append(make("span", "pill " + (finding.well ? "ok" : "fail"), finding.well ? "ok" : "FAIL"));
    row.append(make("td", "", finding.name), cell, make("td", "soft", finding.words));
    return row;
  }));
  at("foot").textContent = `Signals are the quality gate's over the newest ${count(now.judged.events)} of at most ${count(now.judged.kept)} decisions of this process. `
    + `Running for ${span(now.now_ms / 1000 - now.started)} · weights generation ${now.generation} · qsc ${now.version} · build ${now.build}`;
  before = now;
}

async function poll() {
  const banner = at("banner");
  try {
    const response = await fetch("scoreboard.json", { cache: "no-store", signal: AbortSignal.timeout(4000) });
    if (!response.ok) throw new Error(response.status);
    show(await response.json());
    banner.hidden = true;
  } catch {
    banner.textContent = "NO ANSWER: the figures below are not live";
    banner.hidden = false;
    document.title = "NO ANSWER · QSC";
  }
  setTimeout(poll, document.hidden ? 10000 : 2000);
}
poll();
