// The document: its elements by their ids, and small things that several parts of the page do with it.

const $ = (id) => document.getElementById(id);

/** An element with properties, and children that are elements or text. */
function el(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Tells those who do not see the page. Only what somebody waits for: never each event. */
function announce(text) {
  $("announce").textContent = text;
}

const milliseconds = (time) => (time < 9.95 ? `${time.toFixed(1)} ms` : time < 9950 ? `${Math.round(time)} ms` : `${Math.round(time / 1000)} s`);

const clock = (date) => `${date.toTimeString().slice(0, 8)}.${String(date.getMilliseconds()).padStart(3, "0")}`;

/** So long until an end, in words. */
function left(seconds) {
  if (seconds <= 0) return "expired";
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  if (hours > 47) return `${Math.floor(hours / 24)} days`;
  return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${Math.floor(seconds)} s`;
}

/** Puts text into the clipboard; where the page is of no secure origin, it is selected instead. Answers whether it was copied. */
async function copy(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(element);
    return false;
  }
}

/** Makes buttons of the role `tab` one stop of the keyboard, with arrows between them. */
function tabs(list, choose) {
  const all = [...list.children];
  const show = (tab, focus) => {
    for (const one of all) {
      one.setAttribute("aria-selected", one === tab);
      one.tabIndex = one === tab ? 0 : -1;
    }
    if (focus) tab.focus();
    choose(tab);
  };
  list.addEventListener("click", ({ target }) => all.includes(target) && show(target));
  list.addEventListener("keydown", (event) => {
    const at = all.indexOf(document.activeElement);
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    show(all.at(next % all.length), true);
  });
  show(all[0]);
}
