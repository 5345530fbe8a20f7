// Talk to the console: requests with the header that other sites cannot set, and streams of events.

export async function ask(method, path, body) {
  const headers = method === "GET" ? {} : { "nextwatch-console": "1" };
  if (body !== undefined) headers["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Error("the console does not answer");
  }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.detail || `the console answered ${answer.status}`);
  return told;
}

// Follow a stream; returns what ends it. `onState` is told true when it is open and false when it is not.
export function follow(path, handlers, onState) {
  const source = new EventSource(path);
  for (const [name, handle] of Object.entries(handlers)) {
    source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
  }
  source.onopen = () => onState(true);
  source.onerror = () => {
    onState(false);
    // A stream that is refused is not tried again by the browser.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => restart(), 2000);
  };
  let isOver = false;
  let next = null;
  function restart() {
    if (!isOver) next = follow(path, handlers, onState);
  }
  return () => {
    isOver = true;
    source.close();
    if (next) next();
  };
}

export const userPath = (id) => encodeURIComponent(id);
