//! A frame is its length as a big-endian u32, followed by a msgpack map. In JSON, bytes are written
//! as `{"$hex": "c0ffee"}`, and numbers that JSON lacks as `{"$float": "inf"}`.

use rmpv::Value as Packed;
use serde_json::{Map, Value, json};

const HEX: &str = "$hex";
const FLOAT: &str = "$float";

/// A frame as bytes; `pad` adds that many bytes in a field that no version knows.
pub fn encoded(frame: &Value, pad: usize) -> Result<Vec<u8>, String> {
    let mut fields = packed(frame)?;
    if let (true, Packed::Map(entries)) = (pad > 0, &mut fields) {
        entries.push(("padding".into(), Packed::Binary(vec![0; pad])));
    }
    let mut out = vec![0; 4];
    rmpv::encode::write_value(&mut out, &fields).map_err(|error| error.to_string())?;
    let length = u32::try_from(out.len() - 4).map_err(|error| error.to_string())?;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(out)
}

/// The body of a frame, as JSON.
pub fn decoded(mut body: &[u8]) -> Value {
    match rmpv::decode::read_value(&mut body) {
        Ok(fields) => unpacked(fields),
        Err(error) => json!({"frame": "unreadable", "message": error.to_string()}),
    }
}

fn packed(value: &Value) -> Result<Packed, String> {
    Ok(match value {
        Value::Null => Packed::Nil,
        Value::Bool(truth) => Packed::Boolean(*truth),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => Packed::Array(items.iter().map(packed).collect::<Result<_, _>>()?),
        Value::Object(entries) => match entries.get(HEX).and_then(Value::as_str) {
            Some(digits) => Packed::Binary(from_hex(digits)?),
            None => Packed::Map(
                entries
                    .iter()
                    .map(|(key, value)| Ok((key.as_str().into(), packed(value)?)))
                    .collect::<Result<_, String>>()?,
            ),
        },
    })
}

fn unpacked(value: Packed) -> Value {
    match value {
        Packed::Nil => Value::Null,
        Packed::Boolean(truth) => json!(truth),
        Packed::Integer(whole) => whole.as_i64().map_or(json!(whole.as_u64()), |i| json!(i)),
        Packed::F32(number) => json!(number),
        Packed::F64(number) if number.is_finite() => json!(number),
        Packed::F64(number) => json!({FLOAT: number.to_string()}),
        Packed::String(text) => json!(text.as_str()),
        Packed::Binary(bytes) => json!({HEX: to_hex(&bytes)}),
        Packed::Array(items) => items.into_iter().map(unpacked).collect(),
        Packed::Map(entries) => Value::Object(
            entries
                .into_iter()
                .map(|(key, value)| (key.as_str().unwrap_or("?").to_owned(), unpacked(value)))
                .collect::<Map<_, _>>(),
        ),
        Packed::Ext(..) => Value::Null,
    }
}

pub fn from_hex(digits: &str) -> Result<Vec<u8>, String> {
    let digit = |byte: u8| {
        (byte as char)
            .to_digit(16)
            .ok_or(format!("{byte} is no digit"))
    };
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Ok((digit(*high)? << 4 | digit(*low)?) as u8),
            _ => Err("an odd number of digits".to_owned()),
        })
        .collect()
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| [DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]];
    bytes.iter().flat_map(digits).map(char::from).collect()
}
