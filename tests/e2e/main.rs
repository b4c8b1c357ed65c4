//! End to end, on a real cluster: the chart, the operator, the gateway, NATS, clients.

mod alone;
mod children;
mod crowd;
mod declare;
mod deliver;
mod doctor;
mod pages;
mod private;
mod rights;
mod rules;
mod scaling;
mod survive;
mod tail;
