//! Scripts of others: what they count in Redis is theirs, how it is reached is decided here.

use redis::ScriptInvocation;

use super::link::Trouble;

/// A Lua script, hashed once.
pub struct Script(redis::Script);

/// A script that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Redis did not answer a script")]
pub struct Unanswered {
    /// Whether it may have been run: the answer was late, or the connection broke.
    pub may_be_done: bool,
    /// Whether the same script will fail again, because a key holds something else.
    pub hopeless: bool,
}

impl Script {
    /// Takes the text of a script.
    pub fn new(code: &str) -> Self {
        Self(redis::Script::new(code))
    }

    pub(super) fn invocation(&self, keys: &[String], arguments: &[String]) -> ScriptInvocation<'_> {
        let mut invocation = self.0.prepare_invoke();
        for key in keys {
            invocation.key(key);
        }
        for argument in arguments {
            invocation.arg(argument);
        }
        invocation
    }
}

impl Unanswered {
    pub(super) fn of(trouble: Trouble) -> Self {
        Self { may_be_done: trouble.may_be_done(), hopeless: trouble == Trouble::WrongType }
    }
}
