// A client of Midstreamer on quic-go, for tests: one command as a JSON line in, one result out.
//
// It shares no code with the server. It sends whatever it is told to send, valid or not, and
// reports what it received. The tests that start it (tests/interop) judge the result.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// A command does one thing and returns its result.
type command func(*session, request) (result, error)

type result map[string]any

// A request is one line of input; each command reads the fields that it needs.
type request struct {
	Do string `json:"do"`

	// connect
	Address     string `json:"address"`
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
	Authority   string `json:"authority"`
	Server      string `json:"server"`
	ALPN        string `json:"alpn"`
	Early       bool   `json:"early"`
	PacketBytes uint16 `json:"packet_bytes"`

	// write, ask
	Stream int            `json:"stream"`
	Hex    string         `json:"hex"`
	Frame  map[string]any `json:"frame"`
	Pad    int            `json:"pad"`

	// receive, ask, end
	Seconds float64 `json:"seconds"`
}

func (r request) patience() time.Duration {
	if r.Seconds == 0 {
		return 10 * time.Second
	}
	return time.Duration(r.Seconds * float64(time.Second))
}

var errUnsupported = errors.New("unsupported")

var commands = map[string]command{
	"connect":     (*session).connect,
	"write":       (*session).write,
	"ask":         (*session).ask,
	"receive":     (*session).receive,
	"end":         (*session).end,
	"rebind":      (*session).rebind,
	"migrate":     (*session).migrate,
	"update_keys": (*session).updateKeys,
	"facts":       (*session).facts,
	"close":       (*session).close,
}

func main() {
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := json.NewEncoder(os.Stdout)
	made := newSession()
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		if err := out.Encode(answer(made, line)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func answer(made *session, line []byte) result {
	asked, err := parse(line)
	if err != nil {
		return result{"ok": false, "by": "client", "reason": err.Error()}
	}
	do, known := commands[asked.Do]
	if !known {
		return result{"ok": false, "by": "client", "reason": "no such command: " + asked.Do}
	}
	found, err := do(made, asked)
	if err != nil {
		return failure(err)
	}
	if found == nil {
		found = result{}
	}
	found["ok"] = true
	return found
}
