//! The command line, with the flags that users of kubectl know.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Gateways of server-sent events from a shell: how they are, what they send, and what is wrong with them.
#[derive(Parser)]
#[command(name = "kubectl-sse", bin_name = "kubectl sse", version)]
pub struct Arguments {
    #[command(flatten)]
    pub cluster: ClusterArguments,
    #[command(subcommand)]
    pub command: Command,
}

/// Which cluster.
#[derive(Args)]
pub struct ClusterArguments {
    /// Namespace; without it that of the context.
    #[arg(short, long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The kubeconfig; without it $KUBECONFIG or ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Gateways, their pods, connections and NATS, as a tree.
    Status(Status),
    /// The events of a stream, across pods that go and come.
    Tail(Tail),
    /// One event to users, topics or everybody.
    Publish(Publish),
    /// Evicts a pod, and shows its connections leave.
    Drain(Drain),
    /// What is wrong with a gateway, why it matters, and what to do. Exits with 1 when it found an error.
    Doctor(Doctor),
}

#[derive(Args)]
pub struct Status {
    /// A gateway; without it all of the namespace.
    pub name: Option<String>,
    /// The gateways of all namespaces.
    #[arg(short = 'A', long, conflicts_with = "name")]
    pub all_namespaces: bool,
    #[arg(short, long, value_enum, default_value = "text", help = "Form of the output")]
    pub output: Output,
}

#[derive(Args)]
pub struct Tail {
    /// The gateway.
    pub name: String,
    #[command(flatten)]
    pub jwt: JwtArguments,
    #[command(flatten)]
    pub door: DoorArguments,
    /// Topics to subscribe to, comma-separated.
    #[arg(long, value_delimiter = ',', value_name = "TOPIC")]
    pub topics: Vec<String>,
    /// Id of the event after which to begin.
    #[arg(long, value_name = "ID")]
    pub last_event_id: Option<String>,
    /// The stream as it is on the wire, with comments and positions.
    #[arg(long, conflicts_with = "output")]
    pub raw: bool,
    /// Ends after so many events.
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    #[arg(
        short,
        long,
        value_enum,
        default_value = "text",
        help = "Form of the output: json is one object a line"
    )]
    pub output: Output,
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("whom").required(true))]
pub struct Publish {
    /// The gateway.
    pub name: String,
    #[command(flatten)]
    pub jwt: JwtArguments,
    #[command(flatten)]
    pub door: DoorArguments,
    /// To every connection of this user.
    #[arg(long, group = "whom")]
    pub user: Option<String>,
    /// To every connection of these users, comma-separated.
    #[arg(long, group = "whom", value_delimiter = ',', value_name = "USER")]
    pub users: Vec<String>,
    /// To whoever is subscribed to this topic.
    #[arg(long, group = "whom")]
    pub topic: Option<String>,
    /// To whoever is subscribed to one of these topics, comma-separated.
    #[arg(long, group = "whom", value_delimiter = ',', value_name = "TOPIC")]
    pub topics: Vec<String>,
    /// To everybody in the tenant.
    #[arg(long, group = "whom")]
    pub all: bool,
    /// To one connection, by its id.
    #[arg(long, group = "whom", value_name = "ID")]
    pub connection: Option<String>,
    /// The tenant, where there is no JWT that says so.
    #[arg(long)]
    pub tenant: Option<String>,
    /// The payload, `@FILE`, or `-` for standard input.
    #[arg(long, default_value = "-")]
    pub data: String,
    /// Type of the event.
    #[arg(long)]
    pub event: Option<String>,
    /// Name of the event: the same within two minutes is one event.
    #[arg(long, value_name = "ID")]
    pub message_id: Option<String>,
    /// Milliseconds that clients wait before they reconnect.
    #[arg(long, value_name = "MS")]
    pub retry: Option<u32>,
    /// Ends the stream after this event.
    #[arg(long)]
    pub complete: bool,
    /// Prints the line that publishes it by NATS' own tool, and publishes nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args)]
pub struct Drain {
    /// The pod.
    pub pod: String,
    /// Seconds until the pod has to be gone.
    #[arg(long, default_value = "300", value_name = "SECONDS")]
    pub timeout: u64,
}

#[derive(Args)]
pub struct Doctor {
    /// A gateway; without it all of the namespace.
    pub name: Option<String>,
    /// The gateways of all namespaces.
    #[arg(short = 'A', long, conflicts_with_all = ["name", "url"])]
    pub all_namespaces: bool,
    #[command(flatten)]
    pub jwt: JwtArguments,
    #[command(flatten)]
    pub door: DoorArguments,
    /// Waits for a heartbeat, to see whether a proxy cuts a quiet stream.
    #[arg(long)]
    pub slow: bool,
    #[arg(short, long, value_enum, default_value = "text", help = "Form of the output")]
    pub output: Output,
}

/// How a gateway is reached.
#[derive(Args)]
pub struct DoorArguments {
    /// The public URL, with its path, instead of a port-forward.
    #[arg(long, requires = "name")]
    pub url: Option<String>,
    /// Authority (PEM) that vouches for the URL, beside those that this machine trusts.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

/// A JWT of the user for whom this is done. The command counts before the file, the file before the rest.
#[derive(Args)]
pub struct JwtArguments {
    /// A JWT, `@FILE`, or `-` for standard input. As an argument it shows in the machine's list of processes and
    /// in the shell's history: prefer --jwt-file or --jwt-command.
    #[arg(long, env = "SSE_JWT", hide_env_values = true, value_name = "JWT")]
    pub jwt: Option<String>,
    /// File that holds the JWT; read again for each connection.
    #[arg(long, value_name = "FILE")]
    pub jwt_file: Option<PathBuf>,
    /// Command that prints a JWT, run by `sh`; again when the JWT has expired or is refused.
    #[arg(long, value_name = "COMMAND")]
    pub jwt_command: Option<String>,
}

/// Form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn refusal(arguments: &[&str]) -> Option<String> {
        let all = [&["kubectl-sse"], arguments].concat();
        Arguments::try_parse_from(all).err().map(|error| error.to_string())
    }

    #[test]
    fn the_definition_of_the_arguments_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_flags_of_kubectl_stand_before_and_behind_the_command() {
        for arguments in [
            &["-n", "shop", "status", "live"][..],
            &["status", "live", "--namespace", "shop"],
            &["status", "-A", "-o", "json"],
            &["doctor", "live", "--context", "c", "--kubeconfig", "k"],
        ] {
            assert_eq!(refusal(arguments), None, "{arguments:?}");
        }
    }

    #[test]
    fn an_event_has_one_target() {
        assert_eq!(refusal(&["publish", "live", "--user", "alice"]), None);
        assert!(refusal(&["publish", "live"]).is_some_and(|said| said.contains("--user")));
        assert!(refusal(&["publish", "live", "--user", "a", "--all"]).is_some());
    }

    #[test]
    fn a_url_is_of_one_gateway() {
        assert_eq!(refusal(&["doctor", "live", "--url", "https://live"]), None);
        assert!(refusal(&["doctor", "--url", "https://live"]).is_some());
    }

    #[test]
    fn the_help_shows_no_jwt() {
        let help =
            Arguments::command().find_subcommand_mut("tail").expect("tail").render_long_help().to_string();
        assert!(help.contains("[env: SSE_JWT]") && help.contains("list of processes"), "{help}");
    }
}
