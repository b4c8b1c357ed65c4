"""What OpenAPI can not say: the subject `users` needs one header, and `topics` another."""

import schemathesis

LISTS = {"users": ("Sse-Users", "alice,bob"), "topics": ("Sse-Topics", "orders.eu,news")}


@schemathesis.hook
def before_call(context, case, kwargs):
    name, value = LISTS.get((case.headers or {}).get("Sse-Subject"), (None, None))
    if name:
        case.headers[name] = value
