//! End to end, on a real cluster: the chart, the operator, the gateway, NATS, clients.

mod apis;
mod children;
mod crowd;
mod dashboard;
mod declare;
mod deliver;
mod doctor;
mod operator;
mod owners;
mod pages;
mod private;
mod rights;
mod rollout;
mod rules;
mod scaling;
mod scraped;
mod survive;
mod tail;
mod traced;
mod upgrade;
