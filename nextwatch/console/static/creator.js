// The page of a creator: upload by a form, and see when it took effect.

import { cell, find, h, ms, replace } from "./dom.js";
import { ask, follow, userPath } from "./wire.js";
import { searchFor } from "./viewer.js";

let stop = () => {};

export function start() {
  find("upload-form").addEventListener("submit", (event) => {
    event.preventDefault();
    upload(new FormData(event.target));
  });
  find("down-form").addEventListener("submit", (event) => {
    event.preventDefault();
    takeDown(new FormData(event.target).get("video_id").trim());
  });
}

export function show(onState) {
  stop = follow("/console/uploads", { uploads: (told) => draw(told.uploads) }, onState);
}

export function hide() {
  stop();
}

function say(text) {
  find("creator-status").textContent = text;
}

async function upload(form) {
  const text = (name) => form.get(name).trim();
  const fields = { title: text("title"), duration_ms: Math.round(Number(form.get("seconds")) * 1000) };
  for (const name of ["channel_id", "category", "language"]) if (text(name)) fields[name] = text(name);
  const tags = text("tags").split(",").map((tag) => tag.trim()).filter(Boolean);
  if (tags.length) fields.tags = tags;
  try {
    const { video_id } = await ask("POST", "/console/uploads", fields);
    say(`Uploaded as ${video_id}.`);
  } catch (error) {
    say(error.message);
  }
}

async function takeDown(id) {
  try {
    await ask("DELETE", `/console/uploads/${userPath(id)}`);
    say(`${id} is taken down.`);
  } catch (error) {
    say(error.message);
  }
}

function draw(uploads) {
  replace(find("uploads"), uploads.map((one) => {
    const after = (at, from) => (at === null || from === null ? "not yet" : ms(at - from));
    const isDown = one.taken_down_ms !== null;
    const title = one.title || one.video_id;
    return h("tr", { "data-upload": one.video_id },
      h("th", { scope: "row" }, title, " ", h("span", { class: "soft" }, one.video_id)),
      cell(isDown && one.retrievable_ms === null ? "–" : after(one.retrievable_ms, one.uploaded_ms)),
      cell(isDown && one.recommended_ms === null ? "–" : after(one.recommended_ms, one.uploaded_ms) + (one.recommended_to ? `, to ${one.recommended_to}` : "")),
      cell(isDown ? after(one.gone_ms, one.taken_down_ms) : "–"),
      h("td", {},
        h("button", { type: "button", "data-key": `find:${one.video_id}`, "aria-label": `Search for ${title}`, disabled: isDown || !one.title, onclick: () => { location.hash = "viewer"; searchFor(one.title); } }, "Search for it"),
        " ",
        h("button", { type: "button", class: "danger", "data-key": `down:${one.video_id}`, "aria-label": `Take down ${title}`, disabled: isDown, onclick: () => takeDown(one.video_id) }, "Take down")));
  }));
}
