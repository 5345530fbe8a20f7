// The pages, one at a time: only the page that is shown, in a tab that is seen, holds a stream open.

import { find } from "./dom.js";
import * as creator from "./creator.js";
import * as operator from "./operator.js";
import * as viewer from "./viewer.js";

const PAGES = { viewer, creator, operator };
const THEMES = ["system", "light", "dark"];
let shown = null;

function showConnection(isOpen) {
  find("connection").textContent = isOpen ? "connected" : "not connected";
  find("connection").className = isOpen ? "good" : "bad";
}

function show() {
  const name = location.hash.slice(1) in PAGES ? location.hash.slice(1) : "viewer";
  if (name === shown) return;
  if (shown) PAGES[shown].hide();
  const isFirst = shown === null;
  shown = name;
  for (const page of Object.keys(PAGES)) find(`page-${page}`).hidden = page !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${name[0].toUpperCase()}${name.slice(1)} – Nextwatch console`;
  PAGES[name].show(showConnection);
  if (!isFirst) {
    find("main").focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  find("theme").textContent = `Theme: ${theme}`;
  localStorage.setItem("theme", theme);
}

const stored = localStorage.getItem("theme");
setTheme(THEMES.includes(stored) ? stored : "system");
find("theme").addEventListener("click", () => {
  const now = localStorage.getItem("theme");
  setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});
window.addEventListener("hashchange", () => {
  if (location.hash !== "#main") show();
});
// A browser opens six connections to one address: a tab that nobody sees leaves its own to others.
document.addEventListener("visibilitychange", () => {
  PAGES[shown].hide();
  if (!document.hidden) PAGES[shown].show(showConnection);
});
for (const page of Object.values(PAGES)) page.start();
show();
document.documentElement.dataset.ready = "true";
performance.mark("page_ready");
