// The event stream format (WHATWG HTML, section 9.2.6): text in any pieces, whole blocks out. A block that is not
// ended is never seen, and a block without data is handed on too: it may hold the place, or `retry`.

export interface Block {
  event?: string;
  data?: string;
  /** Only of a block that has an `id` line itself. */
  id?: string;
  /** Milliseconds. */
  retry?: number;
}

export function parser(onBlock: (block: Block) => void): (text: string) => void {
  let rest = "";
  // Whether the text so far ends with CR: LF would belong to it.
  let afterCr = false;
  let block: Block = {};

  const field = (name: string, value: string) => {
    if (name === "data") block.data = block.data === undefined ? value : `${block.data}\n${value}`;
    else if (name === "event") block.event = value;
    else if (name === "id" && !value.includes("\0")) block.id = value;
    else if (name === "retry" && /^\d+$/.test(value)) block.retry = +value;
  };

  return (text) => {
    if (!text) return;
    const lines = text.slice(+(afterCr && text[0] === "\n")).split(/\r\n?|\n/);
    afterCr = text.endsWith("\r");
    lines[0] = rest + lines[0];
    rest = lines.pop()!;
    for (const line of lines) {
      if (line) {
        const [, name, value] = /^([^:]*):? ?([^]*)$/.exec(line)!;
        field(name!, value!);
      } else {
        const ended = block;
        block = {};
        onBlock(ended);
      }
    }
  };
}
