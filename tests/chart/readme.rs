//! The table of values in the chart's README is made from `values.yaml`: each value with its default, and the comment above it.

use std::fmt::Write as _;

const VALUES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/sse-gateway/values.yaml");
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/sse-gateway/README.md");
const HEAD: &str = "| Value | Default | Meaning |\n| --- | --- | --- |\n";

/// A key of the file, with what is below it.
#[derive(Debug, Default)]
struct Node {
    key: String,
    comment: String,
    /// Behind the colon.
    value: String,
    below: Vec<Node>,
}

impl Node {
    /// The keys of these lines, which have one indent or are below such.
    fn read(lines: &[&str]) -> Vec<Self> {
        let indent = |line: &str| line.len() - line.trim_start().len();
        let (mut nodes, mut comment): (Vec<Self>, _) = (Vec::new(), String::new());
        let mut at = 0;
        while let Some(line) = lines.get(at) {
            at += 1;
            if let Some(text) = line.trim_start().strip_prefix("# ") {
                let _ = write!(comment, "{}{text}", if comment.is_empty() { "" } else { " " });
            } else if line.is_empty() {
                comment.clear();
            } else {
                let (key, value) = line.split_once(':').unwrap_or_else(|| panic!("no value: {line}"));
                let inner =
                    lines[at..].iter().take_while(|l| l.is_empty() || indent(l) > indent(line)).count();
                nodes.push(Self {
                    key: key.trim().into(),
                    value: value.trim().into(),
                    comment: std::mem::take(&mut comment),
                    below: Self::read(&lines[at..at + inner]),
                });
                at += inner;
            }
        }
        nodes
    }

    fn is_explained(&self) -> bool {
        !self.comment.is_empty() || self.below.iter().any(Self::is_explained)
    }

    /// The default, in one line.
    fn default(&self) -> String {
        if self.below.is_empty() {
            return self.value.clone();
        }
        let below = self.below.iter().map(|node| format!("{}: {}", node.key, node.default()));
        format!("{{{}}}", below.collect::<Vec<_>>().join(", "))
    }

    /// The rows of what has a meaning of its own.
    fn rows(&self, path: &str, table: &mut String) {
        let path = if path.is_empty() { self.key.clone() } else { format!("{path}.{}", self.key) };
        if self.below.iter().any(Self::is_explained) {
            return self.below.iter().for_each(|node| node.rows(&path, table));
        }
        assert!(!self.comment.is_empty(), "{path} has no comment in values.yaml");
        let _ = writeln!(table, "| `{path}` | `{}` | {} |", self.default(), self.comment.replace('|', "\\|"));
    }
}

fn table(values: &str) -> String {
    let mut table = HEAD.to_owned();
    Node::read(&values.lines().collect::<Vec<_>>()).iter().for_each(|node| node.rows("", &mut table));
    table
}

#[test]
fn the_readme_says_what_the_values_say() {
    let (values, readme) =
        (std::fs::read_to_string(VALUES).expect("values"), std::fs::read_to_string(README).expect("README"));
    let (before, rest) = readme.split_once(HEAD).expect("the table's head");
    let after: String = rest.split_inclusive('\n').skip_while(|line| line.starts_with("| `")).collect();
    let wanted = format!("{before}{}{after}", table(&values));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(README, wanted).expect("the README written");
    } else {
        assert!(readme == wanted, "the chart's README is behind its values: make chart");
    }
}

#[test]
fn a_value_is_told_with_its_default_and_its_comment() {
    let values = "# Not told.\n\n# How many\n# there are.\ncount: 2\n\n# A group.\ngroup:\n  # On | off.\n  enabled: false\n\n  # All at once.\n  \
        bounds:\n    limits:\n      memory: 1Mi\n    other: \"\"\n";
    let rows = "| `count` | `2` | How many there are. |\n| `group.enabled` | `false` | On \\| off. |\n\
        | `group.bounds` | `{limits: {memory: 1Mi}, other: \"\"}` | All at once. |\n";
    assert_eq!(table(values), format!("{HEAD}{rows}"));
}

#[test]
#[should_panic(expected = "group.silent has no comment")]
fn a_value_without_a_comment_is_a_failure() {
    table("group:\n  # Told.\n  told: 1\n  silent: 2\n");
}
