//! What is printed: the answer to standard output, notes to standard error, colours for terminals alone.

use std::io::{self, IsTerminal as _, Write as _};

/// A line of the answer.
///
/// # Errors
///
/// When nobody reads it any more.
pub fn out(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// A line about what goes on, that is no part of the answer.
pub fn note(text: &str) {
    // Who closed it does not want to know.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Puts colours around words, or leaves them alone.
#[derive(Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    /// Of standard output: a terminal, without `NO_COLOR`.
    pub fn of_output() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(!unwanted && io::stdout().is_terminal())
    }

    #[cfg(test)]
    pub const fn plain() -> Self {
        Self(false)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    pub fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    pub fn odd(self, text: &str) -> String {
        self.with("33", text)
    }

    pub fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    pub fn faint(self, text: &str) -> String {
        self.with("2", text)
    }
}

/// A line, and those below it.
#[derive(Debug, Default)]
pub struct Node {
    text: String,
    below: Vec<Self>,
}

impl Node {
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), below: Vec::new() }
    }

    pub fn add(&mut self, text: impl Into<String>) -> &mut Self {
        let at = self.below.len();
        self.below.push(Self::new(text));
        &mut self.below[at]
    }

    /// The tree, a line for each node, without a line feed at its end.
    pub fn render(&self) -> String {
        let mut out = self.text.clone();
        self.render_below("", &mut out);
        out
    }

    fn render_below(&self, indent: &str, out: &mut String) {
        for (at, node) in self.below.iter().enumerate() {
            let last = at + 1 == self.below.len();
            let (branch, further) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            out.push('\n');
            out.push_str(indent);
            out.push_str(branch);
            out.push_str(&node.text);
            node.render_below(&format!("{indent}{further}"), out);
        }
    }
}

/// Text of somebody else, for a line of a terminal: control characters could move its cursor.
pub fn tame(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_shows_what_belongs_to_what() {
        let mut root = Node::new("root");
        root.add("a").add("b");
        root.add("c").add("d");
        assert_eq!(root.render(), "root\n├─ a\n│  └─ b\n└─ c\n   └─ d");
    }

    #[test]
    fn colours_are_for_terminals() {
        assert_eq!(
            (Paint(true).bad("x"), Paint(false).bad("x")),
            ("\u{1b}[31mx\u{1b}[0m".into(), "x".into())
        );
    }

    #[test]
    fn what_others_wrote_moves_no_cursor() {
        assert_eq!(tame("a\u{1b}[2Jb\r\nc"), "a [2Jb  c");
    }
}
