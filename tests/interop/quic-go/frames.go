package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/quic-go/quic-go"
	"github.com/vmihailenco/msgpack/v5"
)

// A frame is its length as a big-endian u32, followed by a msgpack map. In JSON, bytes are written
// as {"$hex": "c0ffee"}, and numbers that JSON lacks as {"$float": "inf"}.
const (
	hexKey   = "$hex"
	floatKey = "$float"
)

func parse(line []byte) (request, error) {
	var asked request
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber() // keeps integers exact
	err := decoder.Decode(&asked)
	return asked, err
}

// encoded returns a frame as bytes; pad adds that many bytes in a field that no version knows.
func encoded(frame map[string]any, pad int) ([]byte, error) {
	fields, err := fromJSON(frame)
	if err != nil {
		return nil, err
	}
	if pad > 0 {
		fields.(map[string]any)["padding"] = make([]byte, pad)
	}
	var out bytes.Buffer
	out.Write(make([]byte, 4))
	encoder := msgpack.NewEncoder(&out)
	encoder.UseCompactInts(true)
	if err := encoder.Encode(fields); err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(out.Bytes(), uint32(out.Len()-4))
	return out.Bytes(), nil
}

func fromJSON(value any) (any, error) {
	switch value := value.(type) {
	case json.Number:
		if strings.ContainsAny(value.String(), ".eE") {
			return value.Float64()
		}
		return strconv.ParseInt(value.String(), 10, 64)
	case []any:
		for place := range value {
			item, err := fromJSON(value[place])
			if err != nil {
				return nil, err
			}
			value[place] = item
		}
		return value, nil
	case map[string]any:
		if text, is := value[hexKey].(string); is {
			return hex.DecodeString(text)
		}
		made := make(map[string]any, len(value))
		for key := range value {
			item, err := fromJSON(value[key])
			if err != nil {
				return nil, err
			}
			made[key] = item
		}
		return made, nil
	default:
		return value, nil
	}
}

func toJSON(value any) any {
	switch value := value.(type) {
	case []byte:
		return map[string]string{hexKey: hex.EncodeToString(value)}
	case float64:
		if math.IsNaN(value) || math.IsInf(value, 0) {
			return map[string]string{floatKey: fmt.Sprint(value)}
		}
		return value
	case []any:
		for place := range value {
			value[place] = toJSON(value[place])
		}
		return value
	case map[string]any:
		for key := range value {
			value[key] = toJSON(value[key])
		}
		return value
	default:
		return value
	}
}

// read reads frames from a stream until the stream ends.
func (s *session) read(stream *quic.Stream) {
	head := make([]byte, 4)
	for {
		if _, err := io.ReadFull(stream, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head))
		if _, err := io.ReadFull(stream, body); err != nil {
			return
		}
		s.came.Add(int64(len(head) + len(body)))
		if len(body) == 0 {
			continue
		}
		var frame map[string]any
		if err := msgpack.Unmarshal(body, &frame); err != nil {
			frame = map[string]any{"frame": "unreadable", "message": err.Error()}
		}
		s.frames <- toJSON(frame).(map[string]any)
	}
}
