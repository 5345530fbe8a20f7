// The page of a viewer. A click is a real watch: it goes to Kafka, and what comes back is shown.

import { find, h, ms, replace } from "./dom.js";
import { explain } from "./why.js";
import { ask, follow, userPath } from "./wire.js";

const PARTS = ["Kafka, to streams", "State", "Tower", "Search", "Ranking", "Kafka, back", "Page"];
const SHOWN_AFTER_MS = 1000;
const MOST_PENDING = 100;
const MOST_DEEDS = 100;
const MOST_VIDEOS = 2000;

const state = { user: "", answer: null, videos: new Map(), pending: new Map(), places: new Map() };
let words = { sources: {}, degraded: {} };
let stop = () => {};
let tellConnection = () => {};
let impressionTimer = 0;

export function start() {
  find("user-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const id = find("user-id").value.trim();
    if (id) become(id);
  });
  find("new-user").addEventListener("click", () => become(`viewer-${crypto.randomUUID().slice(0, 8)}`));
  find("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    search(find("search").value.trim());
  });
  drawTimes(null);
}

export async function show(onState) {
  tellConnection = onState;
  tellConnection(true);
  if (state.user) connect();
  try {
    words = await ask("GET", "/console/words");
    const { users } = await ask("GET", "/console/users");
    find("users").replaceChildren(...users.map((id) => h("option", { value: id })));
  } catch (error) {
    say(error.message);
  }
}

export function hide() {
  clearTimeout(impressionTimer);
  stop();
  stop = () => {};
}

export function searchFor(text) {
  find("search").value = text;
  if (!state.user) become(`viewer-${crypto.randomUUID().slice(0, 8)}`);
  search(text);
}

function say(text) {
  find("viewer-status").textContent = text;
}

function become(id) {
  state.user = id;
  state.answer = null;
  state.pending.clear();
  state.places.clear();
  find("user-id").value = id;
  find("feed").replaceChildren();
  find("feed-about").textContent = "";
  find("history").replaceChildren();
  drawTimes(null);
  say(`You are ${id}.`);
  connect();
}

async function connect() {
  stop();
  const user = state.user;
  const path = userPath(user);
  stop = follow(
    `/console/users/${path}/feed`,
    {
      recommendation: (told) => user === state.user && take(told),
      history: (told) => user === state.user && takeHistory(told),
      deed: (told) => user === state.user && takeDeeds(told),
      erased: () => user === state.user && forget(),
    },
    tellConnection,
  );
  // Whoever has no list yet asks for one; it comes by the stream.
  await ask("GET", `/v1/users/${path}/recommendations?wait_ms=5000`).catch(() => {
    if (user === state.user && !state.answer) say("There is no list of this user yet: watch or search something.");
  });
}

// A page may stay open for days: of the videos that it has seen it keeps the newest.
function know(videos) {
  for (const [id, video] of Object.entries(videos)) {
    state.videos.delete(id);
    state.videos.set(id, video);
  }
  const known = state.videos.keys();
  while (state.videos.size > MOST_VIDEOS) state.videos.delete(known.next().value);
}

function take(told) {
  const answer = told.recommendation;
  know(told.videos);
  const clicked = answer.caused_by.map((id) => state.pending.get(id)).find((one) => one);
  for (const id of answer.caused_by) state.pending.delete(id);
  if (state.answer?.recommendation_id !== answer.recommendation_id) drawFeed(answer);
  if (clicked) {
    const total = performance.now() - clicked.startedAt;
    const times = timesOf(told, clicked, total);
    performance.measure("click_to_feed", { start: clicked.startedAt, duration: total, detail: times.parts });
    drawTimes(times);
    const first = answer.items[0] ? `, first is ${titleOf(answer.items[0].video_id)}` : "";
    say(`Feed updated ${Math.round(total)} ms after the click${first}.`);
  }
  clearTimeout(impressionTimer);
  impressionTimer = setTimeout(() => sendImpressions(answer), SHOWN_AFTER_MS);
}

// The parts of the way that are known; clocks of one machine, in whole milliseconds where Kafka is.
function timesOf(told, clicked, total) {
  const { decode = 0, fold = 0, encode = 0, search: found = 0, rank = 0 } = told.stages;
  const stages = decode + fold + encode + found + rank;
  const there = Math.max(0, told.recommendation.generated_at_ms - clicked.epochMs - stages);
  const back = Math.max(0, told.received_ms - told.recommendation.generated_at_ms);
  const parts = [there, decode + fold, encode, found, rank, back];
  const sum = parts.reduce((a, b) => a + b, 0);
  return { parts: [...parts, Math.max(0, total - sum)], total, isKnown: stages > 0 };
}

function drawTimes(times) {
  const values = times ? times.parts : PARTS.map(() => 0);
  find("strip").replaceChildren(
    ...values.map((value, n) => {
      const part = h("div", { class: `part-${n + 1}` });
      part.style.flexGrow = times ? value : 0;
      return part;
    }),
  );
  const rows = PARTS.map((name, n) => {
    const isStage = n > 0 && n < PARTS.length - 2;
    const known = times && (times.isKnown || !isStage);
    return h("tr", {},
      h("th", { scope: "row" }, h("span", { class: `key part-${n + 1}` }), name),
      h("td", { class: "number" }, known ? `${values[n].toFixed(1)} ms` : "–"));
  });
  rows.push(h("tr", {}, h("th", { scope: "row" }, "Click to feed"), h("td", { class: "number" }, times ? `${times.total.toFixed(1)} ms` : "–")));
  find("times").tBodies[0].replaceChildren(...rows);
}

function titleOf(id) {
  return state.videos.get(id)?.title || id;
}

function drawFeed(answer) {
  const before = state.places;
  state.answer = answer;
  state.places = new Map(answer.items.map((item, place) => [item.video_id, place]));
  const degraded = answer.degraded.map((word) => words.degraded[word] || word).join("; ");
  find("feed-about").textContent = answer.items.length
    ? `Generation ${answer.generation}, ${answer.items.length} videos${degraded ? `. ${degraded}` : ""}`
    : degraded || "The list is empty.";
  const kept = replace(find("feed"), answer.items.map((item, place) => card(item, place, before)));
  if (!kept) find("feed-title").focus({ preventScroll: true });
}

function card(item, place, before) {
  const video = state.videos.get(item.video_id) || {};
  const was = before.get(item.video_id);
  const isMoved = before.size > 0 && was !== place;
  const moved = was === undefined ? "new" : was > place ? `up ${was - place}` : `down ${place - was}`;
  const title = titleOf(item.video_id);
  const seconds = video.duration_ms ? `${Math.round(video.duration_ms / 1000)} s` : "length unknown";
  const button = (text, what, onclick, attributes = {}) => h("button",
    { type: "button", "data-key": `${what}:${item.video_id}`, "aria-label": `${text}: ${title}`, onclick, ...attributes }, text);
  return h("li", { class: isMoved ? "card moved" : "card", "data-video": item.video_id },
    h("h4", {}, h("span", { class: "rank" }, `${place + 1}. `), title),
    h("p", { class: "soft" }, [video.category, video.channel_id, seconds].filter(Boolean).join(" · ")),
    h("p", {}, words.sources[item.source] || item.source),
    h("p", { class: "soft" }, `expected ${Math.round(item.expected_watch_ms / 1000)} s${isMoved ? ` · ${moved}` : ""}`),
    h("div", { class: "row" },
      button("Watch", "watch", (event) => watch(item, 1, event), { class: "main" }),
      button("Skip", "skip", (event) => watch(item, 0.05, event)),
      button("Why?", "why", () => explain(state.answer.recommendation_id, item.video_id, titleOf))));
}

async function sendEvent(path, fields, event) {
  const startedAt = event?.timeStamp || performance.now();
  const event_id = crypto.randomUUID();
  state.pending.set(event_id, { startedAt, epochMs: Date.now() });
  if (state.pending.size > MOST_PENDING) state.pending.delete(state.pending.keys().next().value);
  try {
    await ask("POST", path, { event_id, user_id: state.user, event_time_ms: Date.now(), ...fields });
  } catch (error) {
    state.pending.delete(event_id);
    say(error.message);
  }
}

function watch(item, portion, event) {
  const duration_ms = state.videos.get(item.video_id)?.duration_ms || 0;
  const watch_ms = Math.round((duration_ms || 30000) * portion);
  return sendEvent("/v1/events/watch", {
    video_id: item.video_id, watch_ms, duration_ms, recommendation_id: state.answer.recommendation_id,
  }, event);
}

function search(query) {
  if (!query) return;
  if (!state.user) become(`viewer-${crypto.randomUUID().slice(0, 8)}`);
  sendEvent("/v1/events/search", { query });
}

// What was shown for a while counts as shown, as in any player.
function sendImpressions(answer) {
  if (!answer.items.length || answer !== state.answer) return;
  const videos = answer.items.slice(0, 100).map((item, position) => ({ video_id: item.video_id, position }));
  ask("POST", "/v1/events/impressions", {
    event_id: crypto.randomUUID(), user_id: state.user, event_time_ms: Date.now(), videos,
    recommendation_id: answer.recommendation_id,
  }).catch((error) => say(error.message));
}

function takeHistory(told) {
  know(told.videos);
  const known = new Set([...find("history").children].map((row) => row.dataset.id));
  const rows = told.deeds.filter((deed) => !known.has(idOf(deed))).map(row).reverse();
  find("history").append(...rows);
}

function takeDeeds(told) {
  know(told.videos);
  for (const deed of told.deeds) {
    const known = [...find("history").children].some((one) => one.dataset.id === idOf(deed));
    if (!known) find("history").prepend(row(deed));
  }
  while (find("history").childElementCount > MOST_DEEDS) find("history").lastElementChild.remove();
}

const idOf = (deed) => `${deed.event_time_ms}:${deed.video_id || ""}:${deed.query || ""}`;

function row(deed) {
  const what = deed.query
    ? `Searched “${deed.query}”`
    : `Watched ${deed.duration_ms ? `${Math.min(100, Math.round((100 * (deed.watch_ms || 0)) / deed.duration_ms))} % of ` : ms(deed.watch_ms || 0) + " of "}${titleOf(deed.video_id)}`;
  return h("li", { "data-id": idOf(deed) }, what, " ", h("span", { class: "soft" }, new Date(deed.event_time_ms).toLocaleTimeString()));
}

function forget() {
  state.answer = null;
  state.places = new Map();
  find("feed").replaceChildren();
  find("history").replaceChildren();
  find("feed-about").textContent = "";
  say("This user was erased.");
}
