// Say why a card is there: what `nextwatch why` tells of its recommendation.

import { find, h } from "./dom.js";
import { ask } from "./wire.js";

export async function explain(recommendationId, videoId, titleOf) {
  const body = find("why-body");
  body.replaceChildren(h("p", { role: "status" }, "Reading the topics…"));
  find("why").showModal();
  find("why-title").focus();
  try {
    const told = await ask("GET", `/console/why/${recommendationId}`);
    body.replaceChildren(...explained(told, videoId, titleOf));
  } catch (error) {
    body.replaceChildren(h("p", { class: "bad", role: "alert" }, error.message));
  }
}

const rounded = (value) => (typeof value === "number" ? Number(value.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 6 }) : String(value));

function explained(told, videoId, titleOf) {
  const item = told.items.find((one) => one.video_id === videoId);
  const causes = told.causes.map((cause) => h("li", {}, causeOf(cause, titleOf)));
  const parts = [
    h("p", {}, h("b", {}, item?.title || titleOf(videoId)), item ? `, place ${item.place} of ${told.items.length}` : ""),
    item && h("p", {}, `Found: ${item.source.meaning}${item.found_by && item.found_by !== item.source.word ? ` (first by ${item.found_by})` : ""}.`),
    h("h4", {}, "Caused by"), h("ul", {}, ...causes),
    told.window && h("p", {}, `Seen through ${told.window.watches.length} watches and ${told.window.searches.length} searches of the window, from ${told.window.origin}.`),
    h("p", {}, `Generation ${told.bundle.generation}, bundle ${told.bundle.bundle_id || "none"}${told.bundle.ranker ? `, ranker ${told.bundle.ranker}` : ""}.`),
  ];
  if (item) {
    const score = Object.entries(item.parts).filter(([, value]) => value !== null);
    parts.push(h("h4", {}, `Score ${rounded(item.score)}, expected ${rounded(item.expected_watch_ms / 1000)} s`));
    if (score.length) parts.push(table("Parts of the score", score));
    if (item.rules.length) parts.push(h("h4", {}, "Rules"), h("ul", {}, ...item.rules.map((rule) => h("li", {}, rule))));
    const features = [...Object.entries(item.pair), ...Object.entries(item.video)];
    if (features.length) parts.push(h("details", {}, h("summary", {}, `${features.length} features`), table("Features", features)));
  }
  parts.push(h("details", {}, h("summary", {}, "What is not known"), h("ul", {}, ...told.not_known.map((line) => h("li", {}, line)))));
  return parts.filter(Boolean);
}

function causeOf(cause, titleOf) {
  if (cause.query) return `the search “${cause.query}”`;
  if (cause.video_id) return `a watch of ${titleOf(cause.video_id)}`;
  return cause.topic ? `a record of ${cause.topic}` : "an event that is not kept any longer";
}

function table(caption, rows) {
  return h("table", {}, h("caption", { class: "hidden" }, caption),
    h("tbody", {}, ...rows.map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "number" }, rounded(value))))));
}
