use super::error::{FunctionError, TransformError};
use crate::{SEPARATOR, tokens};

/// A function in a token of a destination. Arguments that name wildcards of the source are numbers from 1 on until
/// [`Function::resolve`] makes them positions of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Function {
    /// The token itself.
    Wildcard(i64),
    /// A number below `buckets` by a hash of these tokens; of the whole subject if there are none.
    Partition { buckets: i32, of: Vec<i64> },
    /// A number below this by chance.
    Random(i32),
    /// A token that becomes several, or a part of itself.
    Cut { cut: Cut, of: i64, by: i32 },
    /// A token cut wherever this text is.
    Split { of: i64, at: Vec<u8> },
}

/// How a token is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    SplitFromLeft,
    SplitFromRight,
    SliceFromLeft,
    SliceFromRight,
    Left,
    Right,
}

const CUTS: [(&str, Cut); 6] = [
    ("SplitFromLeft", Cut::SplitFromLeft),
    ("SplitFromRight", Cut::SplitFromRight),
    ("SliceFromLeft", Cut::SliceFromLeft),
    ("SliceFromRight", Cut::SliceFromRight),
    ("Left", Cut::Left),
    ("Right", Cut::Right),
];

impl Function {
    /// Reads a token such as `$2` or `{{partition(10,1,2)}}`; `None` if it is no function.
    pub(super) fn parse(token: &str) -> Result<Option<Self>, TransformError> {
        if let Some(number) = token.strip_prefix('$') {
            return Ok(number.parse().ok().map(Self::Wildcard));
        }
        let Some(inner) = token.strip_prefix("{{").and_then(|t| t.strip_suffix("}}")) else {
            return Ok(None);
        };
        if inner.is_empty() {
            return Ok(None);
        }
        let error = |error| TransformError::Function { token: token.to_owned(), error };
        let call = inner.trim().strip_suffix(')').and_then(|call| call.split_once('('));
        let (name, arguments) = call.ok_or_else(|| error(FunctionError::Unknown))?;
        let arguments: Vec<&str> =
            arguments.split(',').enumerate().map(|(n, a)| if n > 0 { a.trim_start() } else { a }).collect();
        Self::call(name.trim_end(), &arguments).map(Some).map_err(error)
    }

    fn call(name: &str, arguments: &[&str]) -> Result<Self, FunctionError> {
        if is_name(name, "Wildcard") {
            return match arguments {
                [""] => Err(FunctionError::NotEnoughArguments),
                [of] => Ok(Self::Wildcard(number(of)?)),
                _ => Err(FunctionError::TooManyArguments),
            };
        }
        if is_name(name, "Partition") {
            let (buckets, of) = arguments.split_first().ok_or(FunctionError::NotEnoughArguments)?;
            let of = of.iter().map(|of| number(of)).collect::<Result<_, _>>()?;
            return Ok(Self::Partition { buckets: small(buckets)?, of });
        }
        if is_name(name, "Random") {
            return match arguments {
                [below] => Ok(Self::Random(small(below)?)),
                _ => Err(FunctionError::NotEnoughArguments),
            };
        }
        if is_name(name, "Split") {
            let (of, at) = two(arguments)?;
            if at.contains([' ', '.']) {
                return Err(FunctionError::BadArgument);
            }
            return Ok(Self::Split { of: number(of)?, at: at.as_bytes().to_vec() });
        }
        let (_, cut) = CUTS.iter().find(|(known, _)| is_name(name, known)).ok_or(FunctionError::Unknown)?;
        let (of, by) = two(arguments)?;
        Ok(Self::Cut { cut: *cut, of: number(of)?, by: small(by)? })
    }

    /// Makes numbers of wildcards positions of tokens of the source. In a source without any wildcard there is only
    /// the subject as a whole.
    pub(super) fn resolve(
        self,
        token: &str,
        wildcards: &[usize],
        is_literal: bool,
    ) -> Result<Self, TransformError> {
        let error = |index| TransformError::Function {
            token: token.to_owned(),
            error: FunctionError::OutOfRange(index),
        };
        let position = |of: i64| {
            if is_literal {
                return Err(error(None));
            }
            // Numbers below 1 mean the first token, wildcard or not, as in nats-server.
            let Some(nth) = usize::try_from(of).ok().and_then(|of| of.checked_sub(1)) else { return Ok(0) };
            let at = wildcards.get(nth).ok_or_else(|| error(Some(of)))?;
            i64::try_from(*at).map_err(|_| error(Some(of)))
        };
        Ok(match self {
            Self::Wildcard(of) => Self::Wildcard(position(of)?),
            Self::Partition { buckets, .. } if is_literal => Self::Partition { buckets, of: Vec::new() },
            Self::Partition { buckets, of } => {
                Self::Partition { buckets, of: of.into_iter().map(position).collect::<Result<_, _>>()? }
            }
            Self::Random(below) => Self::Random(below),
            Self::Cut { cut, of, by } => Self::Cut { cut, of: position(of)?, by },
            Self::Split { of, at } => Self::Split { of: position(of)?, at },
        })
    }

    /// Appends what it makes of the subject.
    pub(super) fn append(&self, subject: &[u8], random: u64, out: &mut Vec<u8>) {
        let token =
            |at: &i64| usize::try_from(*at).ok().and_then(|at| tokens(subject).nth(at)).unwrap_or_default();
        match self {
            Self::Wildcard(of) => out.extend_from_slice(token(of)),
            Self::Partition { buckets, of } => {
                let hash =
                    if of.is_empty() { fnv1a(subject.iter()) } else { fnv1a(of.iter().flat_map(token)) };
                append_number(hash.checked_rem(buckets.cast_unsigned()).unwrap_or(0), out);
            }
            Self::Random(below) => {
                let below = u64::try_from(*below).unwrap_or(0);
                append_number(u32::try_from(random.checked_rem(below).unwrap_or(0)).unwrap_or(0), out);
            }
            Self::Cut { cut, of, by } => cut.append(token(of), usize::try_from(*by).unwrap_or(0), out),
            Self::Split { of, at } => split(token(of), at, out),
        }
    }
}

impl Cut {
    /// A length of 0 or of the whole token and more leaves it as it is.
    fn append(self, token: &[u8], by: usize, out: &mut Vec<u8>) {
        if by == 0 || by >= token.len() {
            out.extend_from_slice(token);
            return;
        }
        let (left, right) = token.split_at(by);
        let (all_but, last) = token.split_at(token.len() - by);
        match self {
            Self::Left => out.extend_from_slice(left),
            Self::Right => out.extend_from_slice(last),
            Self::SplitFromLeft => append_pieces([left, right].into_iter(), out),
            Self::SplitFromRight => append_pieces([all_but, last].into_iter(), out),
            Self::SliceFromLeft => append_pieces(token.chunks(by), out),
            Self::SliceFromRight => {
                let (short, even) = token.split_at(token.len() % by);
                append_pieces([short].into_iter().chain(even.chunks(by)), out);
            }
        }
    }
}

/// Appends what is not empty, as tokens.
fn append_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    for (at, piece) in pieces.filter(|piece| !piece.is_empty()).enumerate() {
        if at > 0 {
            out.push(SEPARATOR);
        }
        out.extend_from_slice(piece);
    }
}

fn split(token: &[u8], at: &[u8], out: &mut Vec<u8>) {
    if at.is_empty() {
        append_pieces(token.chunks(1), out);
        return;
    }
    let mut rest = token;
    let pieces = std::iter::from_fn(|| {
        if rest.is_empty() {
            return None;
        }
        let found = rest.windows(at.len()).position(|window| window == at);
        let end = found.unwrap_or(rest.len());
        let piece = rest.get(..end).unwrap_or_default();
        rest = rest.get(end + at.len()..).unwrap_or_default();
        Some(piece)
    });
    append_pieces(pieces, out);
}

fn append_number(number: u32, out: &mut Vec<u8>) {
    let mut digits = [0; 10];
    let mut at = digits.len();
    let mut left = number;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The 32 bit FNV-1a hash, which decides partitions in every NATS server.
fn fnv1a<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Each word of a name may begin with a small letter.
fn is_name(name: &str, known: &str) -> bool {
    name.len() == known.len()
        && name
            .bytes()
            .zip(known.bytes())
            .all(|(a, b)| a == b || (b.is_ascii_uppercase() && a == b.to_ascii_lowercase()))
}

fn two<'a>(arguments: &[&'a str]) -> Result<(&'a str, &'a str), FunctionError> {
    match arguments {
        [] | [_] => Err(FunctionError::NotEnoughArguments),
        [first, second] => Ok((first, second)),
        _ => Err(FunctionError::TooManyArguments),
    }
}

fn number(text: &str) -> Result<i64, FunctionError> {
    text.trim().parse().map_err(|_| FunctionError::BadArgument)
}

fn small(text: &str) -> Result<i32, FunctionError> {
    text.trim().parse().map_err(|_| FunctionError::BadArgument)
}
