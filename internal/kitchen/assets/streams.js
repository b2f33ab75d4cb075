// The event stream of a browser. A SharedWorker of this file has one for all tabs: a
// browser opens six connections to a server, and ten tabs with a stream each would
// leave none for another page. Where there are no such workers, a page imports it.

const most = 50; // places in one stream, as in follow.go
const followers = new Map(); // where the page behind a port is
let source = null, timer = null, due = 0;

// serve takes a page's port. The page says where it is when it wants to hear what comes
// after that, and null when it no longer does.
export function serve(port) {
  port.onmessage = ({ data }) => {
    if (!data) return leave(port);
    followers.set(port, data);
    soon(20);
  };
  port.onclose = () => leave(port); // the page crashed
}

function leave(port) {
  if (followers.delete(port)) soon(500);
}

// soon opens the stream anew, for who is there then: pages that come together are one
// change, and who leaves a page mostly opens another.
function soon(ms) {
  const at = Date.now() + ms;
  if (timer && due <= at) return;
  clearTimeout(timer);
  due = at;
  timer = setTimeout(open, ms);
}

function open() {
  timer = null;
  source?.close();
  source = null;
  const places = new Map(); // who is at the same place hears the same
  for (const [port, f] of followers) {
    const of = f.build ? [f.build, f.state, f.after, f.ver].join(".") : "lists";
    places.set(of, [...places.get(of) ?? [], [port, f]]);
  }
  if (!places.size) return;
  const list = [...places];
  for (const [, late] of list.splice(0, list.length - most)) {
    tell(late, { is: "lost", why: `More than ${most} pages are open: close some, and reload this one.` });
  }
  const url = "/events?" + new URLSearchParams(list.map(([of]) => ["of", of]));
  const here = source = new EventSource(url);
  const all = list.flatMap(([, at]) => at);
  here.onopen = () => tell(all, { is: "open" });
  here.onmessage = e => {
    const m = JSON.parse(e.data);
    tell(list[m.of][1], m);
  };
  here.onerror = async () => {
    const refused = here.readyState === EventSource.CLOSED;
    here.close(); // it would ask for what has come already
    const why = refused ? await reason(url) : undefined;
    if (source !== here) return; // meanwhile there is another
    tell(all, { is: "lost", why });
    soon(why ? 5000 : 1000);
  };
}

// tell gives a message to those who are still where the stream began.
function tell(at, m) {
  for (const [port, f] of at) {
    if (followers.get(port) !== f) continue;
    f.after = m.seq || f.after;
    f.ver = m.news?.ver || f.ver;
    port.postMessage(m);
    if (m.is === "over" || m.is === "began") leave(port);
  }
}

// reason is why there is no stream, which an EventSource does not tell.
async function reason(url) {
  const stop = new AbortController();
  try {
    const answer = await fetch(url, { signal: stop.signal });
    if (answer.ok) return undefined;
    if (answer.status === 401) return "You are logged out. What is shown may be old; reload the page to log in.";
    const { error, next } = await answer.json();
    return `Disconnected: ${error}${next ? ` (${next})` : ""}. What is shown may be old; trying again.`;
  } catch {
    return undefined;
  } finally {
    stop.abort();
  }
}

addEventListener("connect", e => serve(e.ports[0])); // in a worker
