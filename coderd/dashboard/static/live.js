// Shows moments in the reader's own time, and keeps a page that says so fresh while nobody is busy in it.
"use strict";

const INTERVAL = 5000; // milliseconds

function localise(within) {
  for (const time of within.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.valueOf())) {
      time.title = time.textContent;
      time.textContent = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
    }
  }
}

function isBusy(main) {
  return main.querySelector("details[open]") !== null || main.contains(document.activeElement) || !getSelection().isCollapsed;
}

async function refresh() {
  const main = document.querySelector("main[data-live]");
  if (main === null || document.hidden || isBusy(main)) return;
  try {
    const answer = await fetch(main.dataset.live + location.search, { redirect: "manual", signal: AbortSignal.timeout(INTERVAL) });
    if (answer.type === "opaqueredirect") return location.reload(); // signed out
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main[data-live]");
    if (fresh === null || isBusy(main)) return;
    localise(fresh);
    main.replaceChildren(...fresh.childNodes);
    main.classList.remove("stale");
  } catch {
    main.classList.add("stale"); // the server is away: what is shown was true
  }
}

localise(document);
setInterval(refresh, INTERVAL);
document.addEventListener("visibilitychange", refresh);
