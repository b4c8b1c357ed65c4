// The wire: text in, blocks out, each with the characters as they came. The gateway ends every line with LF alone.

/** A block as it stands on the wire: an event, a comment, or a place. */
function block(raw) {
  const found = { raw, data: undefined, type: "message", id: undefined, retry: undefined };
  const data = [];
  for (const line of raw.split("\n")) {
    const colon = line.indexOf(":");
    if (colon < 1) continue;
    const value = line.slice(colon + 1).replace(/^ /, "");
    if (line.startsWith("data:")) data.push(value);
    else if (line.startsWith("event:")) found.type = value;
    else if (line.startsWith("id:")) found.id = value;
    else if (line.startsWith("retry:")) found.retry = Number(value);
  }
  if (data.length) found.data = data.join("\n");
  return found;
}

/** Takes text as it comes and hands on each block that is whole. */
function parser(take) {
  let text = "";
  return (more) => {
    text += more;
    for (let end; (end = text.indexOf("\n\n")) >= 0; ) {
      const raw = text.slice(0, end);
      text = text.slice(end + 2);
      take(block(raw));
    }
  };
}

/** The sequence of a place, `<epoch>-<sequence>`; none of what is no place. */
function sequence(id) {
  const [, epoch, number] = /^([\da-f]{8})-(\d+)/.exec(id ?? "") ?? [];
  return epoch && { epoch, number: Number(number) };
}

/** How far `id` is ahead of `other`, when they are places in the same life of the log. */
function ahead(id, other) {
  const [one, two] = [sequence(id), sequence(other)];
  return one && two && one.epoch === two.epoch ? one.number - two.number : undefined;
}
