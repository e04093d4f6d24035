use serde_json::{json, Value};

use crate::{from_hex, hex, EventKind, Hash};

/// What is read from JSON and written as JSON.
pub(crate) trait Json: Sized {
    fn read(value: Option<&Value>) -> Option<Self>;
    fn write(&self) -> Value;
}

/// Reads a member of an object, which may be missing.
pub(crate) fn member<T: Json>(object: &Value, name: &str) -> Option<T> {
    T::read(object.get(name))
}

macro_rules! plain {
    ($($type:ty: $read:expr;)*) => {$(
        impl Json for $type {
            fn read(value: Option<&Value>) -> Option<Self> {
                value.and_then($read)
            }

            fn write(&self) -> Value {
                json!(self)
            }
        }
    )*};
}

plain! {
    bool: Value::as_bool;
    i64: Value::as_i64;
    u64: Value::as_u64;
    u32: |v| v.as_u64()?.try_into().ok();
    f64: Value::as_f64;
    String: |v| v.as_str().map(String::from);
}

macro_rules! texts {
    ($($type:ty: $read:expr, $write:expr;)*) => {$(
        impl Json for $type {
            fn read(value: Option<&Value>) -> Option<Self> {
                value.and_then(Value::as_str).and_then($read)
            }

            fn write(&self) -> Value {
                let write: fn(&Self) -> String = $write;
                Value::String(write(self))
            }
        }
    )*};
}

texts! {
    Hash: |text| Hash::from_hex(text.as_bytes()), Hash::to_string;
    Vec<u8>: from_hex, |bytes| hex(bytes);
    EventKind: |text| Some(EventKind::from(text)), EventKind::to_string;
}

impl<T: Json> Json for Option<T> {
    fn read(value: Option<&Value>) -> Option<Self> {
        match value {
            None | Some(Value::Null) => Some(None),
            some => T::read(some).map(Some),
        }
    }

    fn write(&self) -> Value {
        self.as_ref().map_or(Value::Null, Json::write)
    }
}

impl<T: Json> Json for Vec<T> {
    fn read(value: Option<&Value>) -> Option<Self> {
        value?.as_array()?.iter().map(|v| T::read(Some(v))).collect()
    }

    fn write(&self) -> Value {
        self.iter().map(Json::write).collect()
    }
}

impl<A: Json, B: Json> Json for (A, B) {
    fn read(value: Option<&Value>) -> Option<Self> {
        match value?.as_array()?.as_slice() {
            [a, b] => Some((A::read(Some(a))?, B::read(Some(b))?)),
            _ => None,
        }
    }

    fn write(&self) -> Value {
        json!([self.0.write(), self.1.write()])
    }
}
