// In place of your login. Who it is stands in the address: `?user=bob`.
const user = new URLSearchParams(location.search).get("user") ?? "alice";
const session = async () => (await fetch(`/session?user=${encodeURIComponent(user)}`)).json();

export const { gateway } = await session();
export const getJwt = async () => (await session()).jwt;

/** Shows what becomes of the stream. */
export const onState = (state) => { document.getElementById("state").textContent = state; };

/** Adds a row or an item: each text is an element of its own, and never HTML. */
export function add(list, tag, ...texts) {
  const cells = texts.map((text) => Object.assign(document.createElement(tag), { textContent: text }));
  if (tag === "li") return list.prepend(...cells);
  const row = document.createElement("tr");
  row.append(...cells);
  list.prepend(row);
}
