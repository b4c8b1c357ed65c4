// Reads docs/asyncapi.yaml with the parser of AsyncAPI itself, and prints each example of a message with the addresses
// of its channel, a line of JSON each. What the parser finds wrong, be it a warning, goes to stderr and fails, and so does
// an example that is not of its message's schemas, which the parser lets pass.
// Usage: node asyncapi.cjs FILE
const fs = require("node:fs");
const { Parser } = require("@asyncapi/parser");
const { default: Ajv } = require("ajv");

const ajv = new Ajv({ strict: false });

/** An address with the first example of each parameter in it. */
function filled(channel) {
  const values = new Map(channel.parameters().all().map((parameter) => [parameter.id(), parameter.json().examples[0]]));
  return channel.address().replace(/\{(\w+)\}/g, (_, name) => values.get(name));
}

function check(schema, value, of) {
  if (!schema || ajv.validate(schema, value)) return;
  console.error(of, ajv.errorsText());
  process.exitCode = 1;
}

async function main() {
  const { document, diagnostics } = await new Parser().parse(fs.readFileSync(process.argv[2], "utf8"));
  for (const { code, message, path, severity } of diagnostics) {
    if (severity < 2) console.error(code, path.join("."), message);
  }
  if (!document || diagnostics.some(({ severity }) => severity < 2)) process.exit(1);
  for (const operation of document.operations()) {
    for (const channel of operation.channels()) {
      for (const message of operation.messages()) {
        const { examples = [], "x-arrives": arrives = {}, ...schemas } = message.json();
        for (const { name, headers = {}, payload } of examples) {
          check(schemas.headers, headers, `${name}, headers:`);
          check(schemas.payload, payload, `${name}, payload:`);
          const line = { operation: operation.id(), address: filled(channel), name, headers, payload, arrives: arrives[name] };
          console.log(JSON.stringify(line));
        }
      }
    }
  }
}

main();
