// The page of an operator: figures as they come, and what may be done.

import { ago, cell, find, h, ms, replace, share } from "./dom.js";
import { chart } from "./charts.js";
import { ask, follow, userPath } from "./wire.js";

const PROGRESSIVE = "progressive_examples";
const RANKER = "ranker_examples";
let stop = () => {};

export function start() {
  find("rollback").addEventListener("click", () => change("/console/models/rollback", {}, "Roll back to the generation before the one in service?"));
  find("letters-read").addEventListener("click", readLetters);
  find("erase-form").addEventListener("submit", (event) => {
    event.preventDefault();
    erase(new FormData(event.target).get("user_id").trim());
  });
}

export function show(onState) {
  stop = follow("/console/figures", { figures: draw }, onState);
}

export function hide() {
  stop();
}

function say(text) {
  find("operator-status").textContent = text;
}

async function change(path, body, question) {
  if (!confirm(question)) return;
  try {
    const told = await ask("POST", path, body);
    say(told.announced.map((one) => `Generation ${one.generation} is ${one.state.replace("_", " ")}.`).join(" "));
  } catch (error) {
    say(error.message);
  }
}

function draw(told) {
  const { report } = told;
  if (told.failure) say(`The figures stand still: ${told.failure}`);
  drawTiles(told, report);
  find("chart-latency").replaceChildren(...chart(
    Object.entries(told.course).map(([name, values]) => ({ name, values })), { unit: " ms", from: "a minute ago", to: "now" }));
  find("chart-minutes").replaceChildren(...chart(
    ["p50", "p95", "p99"].map((name) => ({ name, values: report.minutes.map((minute) => minute[name]) })),
    { unit: " ms", from: report.minutes.length ? `minute ${report.minutes[0].minute}` : "", to: report.minutes.length ? `minute ${report.minutes.at(-1).minute}` : "" }));
  const measured = told.bundles.filter((bundle) => bundle.metrics);
  const ends = { from: measured.length ? `generation ${measured[0].generation}` : "", to: measured.length ? `generation ${measured.at(-1).generation}` : "" };
  const of = (name, key, counted) => ({ name, values: measured.map((bundle) => measuredOf(bundle, key, counted)) });
  find("chart-recall").replaceChildren(...chart(
    [of("recall@20, live model", "progressive_recall_at_20", PROGRESSIVE), of("popularity", "popularity_recall_at_20", PROGRESSIVE)], { ...ends }));
  find("chart-gauc").replaceChildren(...chart(
    [of("GAUC of the ranker", "ranker_gauc", RANKER), of("order of retrieval alone", "ranker_similarity_gauc", RANKER)], { ...ends }));
  drawModels(told);
  drawLag(told);
  drawProcesses(told);
  drawMetrics(told, report);
}

function drawTiles(told, report) {
  const recent = report.last_10_s.event_to_recommendation_ms;
  const tile = (name, value, note = "") => h("div", { class: "tile" }, h("span", { class: "soft" }, name), h("b", {}, value), h("span", { class: "soft" }, note));
  find("tiles").replaceChildren(
    tile("Events", `${told.events_per_s}/s`, `${report.events_in.toLocaleString("en")} in all`),
    tile("Event → recommendation", ms(recent.p50), `p99 ${ms(recent.p99)}, last 10 s`),
    tile("Unanswered", String(told.unanswered)),
    tile("Generation in service", String(told.in_service ?? "none"), `${report.generations_served} served`),
    tile("Recall@20", share(report.progressive_recall_at_20.model), `popularity ${share(report.progressive_recall_at_20.popularity)}`),
    tile("GAUC", share(report.ranker.gauc), `${report.ranker_examples ?? 0} examples`),
    tile("Uploads", report.uploads.toLocaleString("en"), `retrievable p50 ${ms(report.upload_to_retrievable_ms.p50)}, p99 ${ms(report.upload_to_retrievable_ms.p99)}`),
    tile("Dead letters", report.dead_letters.toLocaleString("en"), Object.entries(told.dead_letters).map(([topic, count]) => `${topic} ${count}`).join(", ")));
}

function drawModels(told) {
  replace(find("models"), [...told.bundles].reverse().map((bundle) => {
    const serves = bundle.generation === told.in_service;
    const state = serves ? "in service" : bundle.state === "in_service" ? "kept" : bundle.state;
    const metric = (name, counted) => cell(share(measuredOf(bundle, name, counted)));
    const number = bundle.generation;
    const isBefore = told.in_service !== null && number < told.in_service && ["kept", "indexed"].includes(state);
    return h("tr", { "data-generation": number },
      h("th", { scope: "row" }, number), cell(state), cell(ago(bundle.announced_at_ms, told.now_ms)),
      metric("progressive_recall_at_20", PROGRESSIVE), metric("popularity_recall_at_20", PROGRESSIVE), metric("ranker_gauc", RANKER), cell(bundle.reason || ""),
      h("td", {},
        isBefore ? h("button", { type: "button", "data-key": `back:${number}`, onclick: () => change("/console/models/rollback", { generation: number }, `Roll back to generation ${number}?`) }, `Roll back to ${number}`) : null,
        state === "withdrawn" ? h("button", { type: "button", "data-key": `promote:${number}`, onclick: () => change("/console/models/promote", { generation: number }, `Put generation ${number} in service again?`) }, `Promote ${number}`) : null));
  }));
}

// A metric of nothing is 0 on the wire: without examples there is none.
function measuredOf(bundle, name, counted) {
  const metrics = bundle.metrics || {};
  return metrics[counted] ? metrics[name] ?? null : null;
}

function drawLag(told) {
  if (told.lag_error) {
    find("lag").replaceChildren(h("tbody", {}, h("tr", {}, h("td", { class: "bad" }, told.lag_error))));
    return;
  }
  const numbers = [...new Set(told.lag.map((one) => one.partition))].sort((a, b) => a - b);
  const rows = new Map();
  for (const one of told.lag) {
    const key = `${one.app} · ${one.topic}`;
    if (!rows.has(key)) rows.set(key, new Map());
    rows.get(key).set(one.partition, one.records);
  }
  find("lag").replaceChildren(
    h("caption", { class: "hidden" }, "Records that are not committed, by topic and partition"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Reader and topic"), ...numbers.map((n) => h("th", { scope: "col", class: "number" }, `partition ${n}`)))),
    h("tbody", {}, ...[...rows].map(([name, of]) => h("tr", {}, h("th", { scope: "row" }, name), ...numbers.map((n) => cell(of.has(n) ? of.get(n) ?? "–" : "", true))))));
}

function drawProcesses(told) {
  find("processes-part").hidden = !told.is_embedded;
  replace(find("processes"), told.processes.map((one) => h("tr", { "data-process": one.name },
    h("th", { scope: "row" }, one.name),
    h("td", { class: one.is_ready ? "good" : "bad" }, one.is_ready ? "ready" : "not ready"),
    cell(one.pid), cell(one.restarts),
    cell(told.report.cpu_percent[one.name]?.last_10_s === undefined ? "–" : `${told.report.cpu_percent[one.name].last_10_s} %`),
    h("td", {}, one.metrics_url.startsWith("http://127.0.0.1:") ? h("a", { href: one.metrics_url, target: "_blank", rel: "noreferrer", "data-key": `metrics:${one.name}` }, `metrics of ${one.name}`) : "–"),
    h("td", {}, one.is_killable ? h("button", { type: "button", class: "danger", "data-key": `kill:${one.name}`, onclick: () => kill(one.name) }, `Kill ${one.name}`) : null))));
  find("faults").replaceChildren(...told.faults.map((fault) => h("li", { "data-fault": fault.process },
    `${fault.process} was killed ${ago(fault.killed_ms, told.now_ms)} ago: `,
    fault.ready_after_ms === null ? "not ready yet" : `ready after ${ms(fault.ready_after_ms)}`,
    fault.process === "streams" && fault.answered_after_ms !== null ? `, a recommendation after ${ms(fault.answered_after_ms)}` : "")));
}

async function kill(name) {
  if (!confirm(`Kill ${name} (SIGKILL)? The stack starts it again.`)) return;
  try {
    await ask("POST", `/console/faults/${encodeURIComponent(name)}`, {});
    say(`${name} was killed.`);
  } catch (error) {
    say(error.message);
  }
}

function drawMetrics(told, report) {
  const percentiles = (of) => Object.entries(of).map(([name, value]) => `${name} ${ms(value)}`).join(", ");
  const counts = (of) => Object.entries(of).map(([name, count]) => `${name} ${count}`).join(", ") || "none";
  const rows = {
    "Events in": report.events_in, "Answered": report.answered, "Recommendations out": report.recommendations_out,
    "Event → recommendation, whole run": percentiles(report.event_to_recommendation_ms),
    "Upload → retrievable, whole run": percentiles(report.upload_to_retrievable_ms),
    "Degraded, by reason": counts(report.degraded), "Dead letters, by topic": counts(told.dead_letters),
    "Recommendations by generation": counts(report.generations), "Restarts": counts(report.restarts),
    "Progressive examples": report.progressive_examples ?? "none", "Videos in the catalogue": report.catalogue_videos,
    "Lag of streams": `${told.lag.filter((one) => one.app === "streams").reduce((sum, one) => sum + (one.records ?? 0), 0)} records`,
    "Broker": report.broker || "–", "Seconds": report.seconds,
  };
  for (const [name, marks] of Object.entries(report.memory_mb)) rows[`Memory of ${name}, MiB by minute`] = counts(marks);
  find("metrics").replaceChildren(h("caption", { class: "hidden" }, "All figures of the run"),
    h("tbody", {}, ...Object.entries(rows).map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, value)))));
}

async function readLetters() {
  find("letters").replaceChildren(h("p", { role: "status" }, "Reading the topics…"));
  try {
    const told = await ask("GET", "/console/letters");
    find("letters").replaceChildren(...lettersOf(told));
  } catch (error) {
    find("letters").replaceChildren(h("p", { class: "bad", role: "alert" }, error.message));
  }
}

function lettersOf(told) {
  if (!told.kinds.length) return [h("p", { role: "status" }, "There are no dead letters.")];
  const table = (name, head, rows) => h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": name },
    h("table", {}, h("caption", { class: "hidden" }, name), h("thead", {}, h("tr", {}, ...head.map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, ...rows)));
  const kinds = told.kinds.map((kind) => h("tr", { "data-reason": kind.reason }, cell(kind.topic), cell(kind.reason), cell(kind.letters, true), cell(kind.passing, true),
    h("td", {}, kind.passing ? h("button", { type: "button", "aria-label": `Replay ${kind.topic}, ${kind.reason}`, onclick: () => replay({ topic: kind.topic, reason: kind.reason }) }, "Replay those that pass") : null)));
  const newest = told.newest.map((letter) => h("tr", {}, h("th", { scope: "row" }, letter.place), cell(letter.reason), cell(letter.today), cell(letter.key),
    h("td", {}, h("pre", {}, letter.preview)),
    h("td", {}, letter.today === "passes" ? h("button", { type: "button", "aria-label": `Replay ${letter.place}`, onclick: () => replay({ letters: [letter.place] }) }, "Replay") : null)));
  return [
    table("Dead letters by reason", ["Topic", "Reason", "Letters", "Would pass today", "Actions"], kinds),
    h("h4", {}, "The newest"),
    table("The newest dead letters", ["Letter", "Reason", "Today", "Key", "Value", "Actions"], newest),
  ];
}

async function replay(wish) {
  try {
    const told = await ask("POST", "/console/letters/replay", wish);
    say(`Replayed ${told.replayed}; ${told.staying} stay.`);
  } catch (error) {
    say(error.message);
  }
}

async function erase(id) {
  if (!confirm(`Erase ${id} everywhere? This cannot be undone.`)) return;
  find("erased").replaceChildren(h("p", {}, `Erasing ${id}…`));
  try {
    const { report, conclusion } = await ask("POST", `/console/users/${userPath(id)}/erase`);
    const rows = report.traces.map((trace) => h("li", {}, `${trace.where}: ${trace.what}, ${trace.count}${trace.note ? ` – ${trace.note}` : ""}`));
    find("erased").replaceChildren(h("p", { class: report.is_clean ? "good" : "bad" }, conclusion), h("ul", {}, ...rows));
  } catch (error) {
    find("erased").replaceChildren(h("p", { class: "bad" }, error.message));
  }
}
