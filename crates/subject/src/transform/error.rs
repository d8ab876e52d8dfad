use std::error::Error;
use std::fmt::{Display, Formatter, Result};

/// Why a transform is none. The texts are nats-server's: clients see them in API errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransformError {
    /// Source or destination is no subject, or only one of them ends in `>`.
    InvalidSubject,
    /// A token of the destination cannot be part of a subject; empty if it is not worth naming.
    BadToken(String),
    /// A token of the destination is a function that cannot be.
    Function {
        /// The token.
        token: String,
        /// What is wrong with it.
        error: FunctionError,
    },
}

/// What is wrong with a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionError {
    /// No function is called so.
    Unknown,
    /// It needs more arguments.
    NotEnoughArguments,
    /// It takes fewer arguments.
    TooManyArguments,
    /// An argument is no number, or has a form that it cannot have.
    BadArgument,
    /// The source does not have as many wildcards; the number that was asked for, unless it has none at all.
    OutOfRange(Option<i64>),
}

impl Display for TransformError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self::Function { token, error } = self else {
            return match self {
                Self::BadToken(token) if !token.is_empty() => {
                    write!(f, "invalid mapping destination: invalid transform in {token}")
                }
                Self::BadToken(_) => f.write_str("invalid mapping destination: invalid transform"),
                _ => f.write_str("invalid subject"),
            };
        };
        write!(f, "invalid mapping destination: {error} in {token}")?;
        match error {
            FunctionError::OutOfRange(Some(index)) => write!(f, ": [{index}]"),
            _ => Ok(()),
        }
    }
}

impl Display for FunctionError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::Unknown => "unknown function",
            Self::NotEnoughArguments => "not enough arguments passed to the function",
            Self::TooManyArguments => "too many arguments passed to the function",
            Self::BadArgument => "function argument is invalid or in the wrong format",
            Self::OutOfRange(_) => "wildcard index out of range",
        })
    }
}

impl Error for TransformError {}
impl Error for FunctionError {}
