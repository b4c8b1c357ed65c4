// sse-gateway-client: what an application imports.

export { connect } from "./connect.js";
export type * from "./options.js";
export { GatewayEventSource } from "./source.js";
