// The live parts of the pages. Without this file everything works but for having
// to reload.

const connection = document.getElementById("connection");
const disconnected = connection.textContent;

// hub finds who has the event stream, and gives the port to it: again where a worker
// cannot be had after all.
function hub(use) {
  const url = document.querySelector("script[data-streams]").dataset.streams;
  const here = async () => {
    const { port1, port2 } = new MessageChannel();
    (await import(url)).serve(port1);
    use(port2);
  };
  try {
    const worker = new SharedWorker(url, { type: "module" });
    worker.onerror = here;
    use(worker.port);
  } catch { // Chrome on Android has none
    here();
  }
}

// follow hears what comes after the place where the page is, while it is in sight: a
// page that nobody sees needs nothing. What was missed meanwhile is sent when it is
// shown again.
function follow(place, handlers) {
  let port = null, over = false;
  const say = () => port?.postMessage(over || document.hidden ? null : place());
  document.addEventListener("visibilitychange", say);
  addEventListener("pagehide", () => port?.postMessage(null));
  addEventListener("pageshow", e => { if (e.persisted) say(); });
  hub(use => {
    port = use;
    port.onmessage = ({ data: m }) => {
      if (m.is === "open" || m.is === "lost") {
        connection.hidden = m.is === "open";
        connection.textContent = m.why ?? disconnected;
        return;
      }
      over ||= m.is === "over" || m.is === "began";
      handlers[m.is](m);
    };
    say();
  });
}

// Lists are made anew by the server, and put in place of what is there.
const lists = document.querySelector("[data-live]");
if (lists) {
  let again = null;
  const refresh = async () => {
    again = null;
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
    if (!answer || !answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector("[data-live]");
    if (!fresh) return;
    const focused = document.activeElement && lists.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    lists.replaceChildren(...fresh.childNodes);
    if (focused) lists.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
  };
  follow(() => ({}), { changed: () => { again ??= setTimeout(refresh, 100); } });
}

const build = document.getElementById("build");
if (build) watch(build);

function watch(build) {
  const steps = document.getElementById("steps");
  const template = document.getElementById("row");
  const most = 2000; // lines of a step that stay in the page
  const find = key => steps.querySelector(`:scope > [data-k="${key}"]`);

  // What the reader folds or unfolds stays so.
  steps.addEventListener("click", e => {
    const summary = e.target.closest("summary");
    if (summary) summary.parentElement.dataset.chosen = "1";
  });
  // A log that was not sent with the page comes when it is unfolded.
  steps.addEventListener("toggle", e => {
    const step = e.target.closest(".step");
    if (e.target.open && !step.dataset.loaded && !step.querySelector(".lines li")) load(step);
  }, true);
  for (const step of steps.querySelectorAll(".step")) {
    const list = step.querySelector(".lines");
    if (list.firstElementChild) { step.dataset.loaded = "1"; list.scrollTop = list.scrollHeight; }
  }

  async function load(step) {
    step.dataset.loaded = "1";
    const answer = await fetch(`/b/${build.dataset.id}/log/${step.dataset.k}?fragment=1`).catch(() => null);
    if (!answer || !answer.ok) { delete step.dataset.loaded; return; }
    const list = step.querySelector(".lines");
    const part = document.createElement("template");
    part.innerHTML = await answer.text();
    for (const line of [...part.content.children]) put(list, line);
    if (!list.firstElementChild) step.querySelector(".count").textContent = "no output";
    list.scrollTop = list.scrollHeight;
  }

  // put adds a line by its number, or takes it for a newer state of the same.
  function put(list, line) {
    const there = document.getElementById(line.id);
    if (there) { there.replaceWith(line); return; }
    let before = list.lastElementChild;
    while (before && before.value > line.value) before = before.previousElementSibling;
    if (before) before.after(line); else list.prepend(line);
  }

  function log(news) {
    const step = find(news.k);
    if (!step) return;
    step.querySelector(".count").textContent = `${news.n} lines`;
    const error = step.querySelector(".error");
    if (news.err) { error.hidden = false; error.href = `#${news.k}-${news.err}`; }
    const details = step.querySelector("details");
    if (!details.open && !step.dataset.loaded) return; // loaded when it is unfolded
    step.dataset.loaded = "1";
    const list = step.querySelector(".lines");
    const follow = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    if (news.instead) list.replaceChildren();
    for (const [n, html] of news.lines) {
      const line = document.createElement("li");
      line.id = `${news.k}-${n}`;
      line.value = n;
      line.setAttribute("value", n);
      if (n === news.err) line.className = "first-error";
      line.innerHTML = html; // escaped by the server
      put(list, line);
    }
    while (list.childElementCount > most) list.firstElementChild.remove();
    if (follow) list.scrollTop = list.scrollHeight;
  }

  function row(news) {
    let step = find(news.k);
    if (!step) {
      step = template.content.firstElementChild.cloneNode(true);
      step.dataset.k = news.k;
      step.querySelector(".lines").setAttribute("aria-label", "Output of a step");
      step.querySelector(".full").href = `/b/${build.dataset.id}/log/${news.k}`;
      steps.append(step);
      document.getElementById("no-steps")?.remove();
    }
    step.querySelector("summary").innerHTML = news.html;
    const details = step.querySelector("details");
    if (!details.dataset.chosen && details.open !== Boolean(news.open)) details.open = Boolean(news.open);
  }

  // draw puts a new picture in the place of the old one; who is at one of its bars
  // with the keyboard stays there.
  function draw(html) {
    const picture = document.getElementById("picture"), at = document.activeElement;
    const bar = at && picture.contains(at) ? at.getAttribute("href") : null;
    picture.innerHTML = html; // escaped by the server
    if (bar) picture.querySelector(`[href="${CSS.escape(bar)}"]`)?.focus({ preventScroll: true });
  }

  function order(keys) {
    keys.forEach((key, i) => {
      const step = find(key), at = steps.children[i];
      if (step && at !== step) steps.insertBefore(step, at);
      if (step) step.id = `step-${i + 1}`;
    });
  }
  order([...steps.children].map(step => step.dataset.k));

  const { id, state } = build.dataset;
  if (!state) return; // it has ended
  let { after, ver } = build.dataset;
  follow(() => ({ build: id, state, after, ver }), {
    news: ({ seq, news }) => {
      after = seq;
      ver = news.ver;
      if (news.rows) news.rows.forEach(row);
      if (news.order) order(news.order);
      if (news.head) document.getElementById("head").innerHTML = news.head;
      if (news.picture) draw(news.picture);
      if (news.extra) document.getElementById("extra").innerHTML = news.extra;
      if (news.logs) news.logs.forEach(log);
    },
    // The page of a build that has ended has more: layers, findings, proof.
    over: () => setTimeout(() => location.reload(), 300),
    began: () => location.reload(),
  });
}
