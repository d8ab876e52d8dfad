//! Serde over [`Node`]s with Go's rules: field names match in any case, the last of several wins, `null` is the zero
//! value, and errors have Go's words.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::scan::{Kind, Node};

/// What went wrong, in Go's words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Error(pub(super) Cow<'static, str>);

impl de::Error for Error {
    fn custom<T: fmt::Display>(msg: T) -> Self {
        Self(Cow::Owned(msg.to_string()))
    }
}

/// What happens to fields that do not exist.
#[derive(Debug)]
pub(super) enum Unknown<'c> {
    Refuse,
    Collect(&'c RefCell<Vec<String>>),
}

/// Where a value is in the request, for error texts.
#[derive(Clone, Copy, Debug)]
struct Path<'p> {
    parent: Option<&'p Self>,
    step: Step<'p>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'p> {
    Root(&'p str),
    Field(&'p str),
    Index(usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}.")?;
        }
        match self.step {
            Step::Root(name) | Step::Field(name) => f.write_str(name),
            Step::Index(index) => write!(f, "{index}"),
        }
    }
}

/// Deserializes one value.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeDeserializer<'n, 'c> {
    node: &'n Node<'n>,
    unknown: &'n Unknown<'c>,
    path: Option<Path<'n>>,
    /// The Go type of the newtype around the value, if it is in one.
    newtype: Option<&'static str>,
}

impl<'n, 'c> NodeDeserializer<'n, 'c> {
    pub(super) fn new(node: &'n Node<'n>, unknown: &'n Unknown<'c>) -> Self {
        Self { node, unknown, path: None, newtype: None }
    }

    /// Go's text for a value of the wrong JSON type.
    fn mismatch(&self, go_type: &str) -> Error {
        let go_type = self.newtype.unwrap_or(go_type);
        let found = match &self.node.kind {
            Kind::Null => "null".to_owned(),
            Kind::Bool(_) => "bool".to_owned(),
            Kind::Number(text) if go_type.contains("int") || go_type == "time.Duration" => {
                format!("number {text}")
            }
            Kind::Number(_) => "number".to_owned(),
            Kind::Text(_) => "string".to_owned(),
            Kind::Array(_) => "array".to_owned(),
            Kind::Object(_) => "object".to_owned(),
        };
        Error(Cow::Owned(match self.path {
            None => format!("json: cannot unmarshal {found} into Go value of type {go_type}"),
            Some(path @ Path { step: Step::Index(_), .. }) => {
                format!("json: cannot unmarshal {found} into {path} of type {go_type}")
            }
            Some(path) => {
                format!("json: cannot unmarshal {found} into Go struct field {path} of type {go_type}")
            }
        }))
    }
}

macro_rules! deserialize_integer {
    ($($method:ident $visit:ident $ty:ty as $go_type:literal)+) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match &self.node.kind {
                Kind::Null => visitor.$visit(0),
                Kind::Number(text) => match text.parse::<$ty>() {
                    Ok(n) => visitor.$visit(n),
                    Err(_) => Err(self.mismatch($go_type)),
                },
                _ => Err(self.mismatch($go_type)),
            }
        }
    )+ };
}

impl<'de> de::Deserializer<'de> for NodeDeserializer<'_, '_> {
    type Error = Error;

    deserialize_integer! {
        deserialize_i32 visit_i32 i32 as "int32"
        deserialize_i64 visit_i64 i64 as "int64"
        deserialize_u64 visit_u64 u64 as "uint64"
        deserialize_u16 visit_u16 u16 as "uint16"
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Bool(b) => visitor.visit_bool(*b),
            Kind::Number(text) => match (text.parse::<u64>(), text.parse::<i64>()) {
                (Ok(n), _) => visitor.visit_u64(n),
                (_, Ok(n)) => visitor.visit_i64(n),
                _ => visitor.visit_f64(text.parse().unwrap_or(f64::NAN)),
            },
            Kind::Text(text) => visitor.visit_str(text),
            Kind::Array(_) => self.deserialize_seq(visitor),
            Kind::Object(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.kind {
            Kind::Null => visitor.visit_bool(false),
            Kind::Bool(b) => visitor.visit_bool(*b),
            _ => Err(self.mismatch("bool")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.kind {
            Kind::Null => visitor.visit_str(""),
            Kind::Text(text) => visitor.visit_str(text),
            _ => Err(self.mismatch("string")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.kind {
            Kind::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(Self { newtype: Some(name), ..self })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.kind {
            Kind::Null => visitor.visit_seq(Items { of: self, items: [].iter(), index: 0 }),
            Kind::Array(items) => visitor.visit_seq(Items { of: self, items: items.iter(), index: 0 }),
            _ => Err(self.mismatch("[]string")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.kind {
            Kind::Null => {
                visitor.visit_map(Members { of: self, members: Vec::new().into_iter(), current: None })
            }
            Kind::Object(members) => {
                let members: Vec<_> =
                    members.iter().map(|(key, node)| (Member::Field(key.as_ref()), node)).collect();
                visitor.visit_map(Members { of: self, members: members.into_iter(), current: None })
            }
            _ => Err(self.mismatch("map[string]string")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let of = Self { path: self.path.or(Some(Path { parent: None, step: Step::Root(name) })), ..self };
        let members = match &self.node.kind {
            Kind::Null => Vec::new(),
            Kind::Object(members) => of.resolve(members, fields),
            _ => return Err(self.mismatch(&format!("server.{name}"))),
        };
        visitor.visit_map(Members { of, members: members.into_iter(), current: None })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if let Kind::Text(text) = &self.node.kind
            && let Some(variant) = find_variant(name, variants, text)
        {
            return visitor.visit_enum(IntoDeserializer::<Error>::into_deserializer(variant));
        }
        let raw = String::from_utf8_lossy(self.node.raw);
        Err(Error(match name {
            "Compression" => Cow::Borrowed("unknown compression algorithm"),
            "PriorityPolicy" => Cow::Owned(format!("unknown priority policy: {raw}")),
            "ConsumerAction" => Cow::Owned(format!("unknown consumer action: {raw}")),
            _ => Cow::Owned(format!("can not unmarshal {raw:?}")),
        }))
    }

    forward_to_deserialize_any! {
        i8 i16 u8 u32 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// The variant a text stands for. `discard` alone ignores case, and `undefined` is an old word for deliver all.
fn find_variant(name: &str, variants: &'static [&'static str], text: &str) -> Option<&'static str> {
    let text = match (name, text) {
        ("DeliverPolicy", "undefined") => "all",
        _ => text,
    };
    let same = |variant: &&&str| match name {
        "DiscardPolicy" => variant.eq_ignore_ascii_case(text),
        _ => **variant == text,
    };
    variants.iter().find(same).copied()
}

/// A member of an object, resolved against the fields of the struct it is read into.
#[derive(Clone, Copy)]
enum Member<'n> {
    Field(&'n str),
    Unknown(&'n str),
}

impl<'n> NodeDeserializer<'n, '_> {
    /// The members under the proper names of their fields, each once. Unknown ones stay in place when they are an
    /// error, so that it does not overtake an error in a field before it.
    fn resolve(
        &self,
        members: &'n [(Cow<'n, str>, Node<'n>)],
        fields: &'static [&'static str],
    ) -> Vec<(Member<'n>, &'n Node<'n>)> {
        let mut resolved: Vec<(Member<'n>, &'n Node<'n>)> = Vec::with_capacity(members.len());
        for (key, node) in members {
            let field = fields
                .iter()
                .find(|field| **field == key.as_ref())
                .or_else(|| fields.iter().find(|field| field.eq_ignore_ascii_case(key)));
            let Some(field) = field else {
                match self.unknown {
                    Unknown::Refuse => resolved.push((Member::Unknown(key), node)),
                    Unknown::Collect(found) => {
                        let mut found = found.borrow_mut();
                        if found.len() < super::UNKNOWN_FIELDS_MAX {
                            found.push(key.clone().into_owned());
                        }
                    }
                }
                continue;
            };
            let same =
                |(member, _): &&mut (Member<'n>, _)| matches!(member, Member::Field(name) if name == field);
            match resolved.iter_mut().find(same) {
                Some(earlier) => earlier.1 = node,
                None => resolved.push((Member::Field(field), node)),
            }
        }
        resolved
    }
}

struct Members<'n, 'c> {
    of: NodeDeserializer<'n, 'c>,
    members: std::vec::IntoIter<(Member<'n>, &'n Node<'n>)>,
    current: Option<(&'n str, &'n Node<'n>)>,
}

impl<'de> de::MapAccess<'de> for Members<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        match self.members.next() {
            None => Ok(None),
            Some((Member::Unknown(name), _)) => {
                Err(Error(Cow::Owned(format!("json: unknown field {name:?}"))))
            }
            Some((Member::Field(name), node)) => {
                self.current = Some((name, node));
                seed.deserialize(StrDeserializer::new(name)).map(Some)
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (name, node) =
            self.current.take().ok_or(Error(Cow::Borrowed("a value was asked for before its key")))?;
        seed.deserialize(NodeDeserializer {
            node,
            unknown: self.of.unknown,
            path: Some(Path { parent: self.of.path.as_ref(), step: Step::Field(name) }),
            newtype: None,
        })
    }
}

struct Items<'n, 'c> {
    of: NodeDeserializer<'n, 'c>,
    items: std::slice::Iter<'n, Node<'n>>,
    index: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(node) = self.items.next() else { return Ok(None) };
        let step = Step::Index(self.index);
        self.index += 1;
        seed.deserialize(NodeDeserializer {
            node,
            unknown: self.of.unknown,
            path: Some(Path { parent: self.of.path.as_ref(), step }),
            newtype: None,
        })
        .map(Some)
    }
}
