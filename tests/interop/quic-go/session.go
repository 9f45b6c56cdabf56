package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// A session is one connection at a time, and what outlives it: the socket and session tickets.
type session struct {
	conn    *quic.Conn
	socket  *movable
	tickets *counted
	streams map[int]*quic.Stream
	frames  chan map[string]any
	came    atomic.Int64
}

func newSession() *session {
	return &session{tickets: &counted{inner: tls.NewLRUClientSessionCache(8)}}
}

// connect goes through the handshake of TLS; the server may still refuse afterwards.
func (s *session) connect(asked request) (result, error) {
	config, err := s.tlsConfig(asked)
	if err != nil {
		return nil, err
	}
	socket, err := newMovable()
	if err != nil {
		return nil, err
	}
	to, err := net.ResolveUDPAddr("udp4", asked.Address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), asked.patience())
	defer cancel()
	settings := &quic.Config{
		InitialPacketSize:       asked.PacketBytes,
		DisablePathMTUDiscovery: asked.PacketBytes != 0,
		KeepAlivePeriod:         time.Second,
	}
	dial := (&quic.Transport{Conn: socket}).Dial
	if asked.Early {
		dial = (&quic.Transport{Conn: socket}).DialEarly
	}
	conn, err := dial(ctx, to, config, settings)
	if err != nil {
		return nil, err
	}
	s.conn, s.socket = conn, socket
	s.streams, s.frames = map[int]*quic.Stream{}, make(chan map[string]any, 1024)
	s.came.Store(0)
	return s.facts(asked)
}

func (s *session) tlsConfig(asked request) (*tls.Config, error) {
	roots := x509.NewCertPool()
	if pem, err := os.ReadFile(asked.Authority); err != nil {
		return nil, err
	} else if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", asked.Authority)
	}
	config := &tls.Config{
		NextProtos:         []string{asked.ALPN},
		ServerName:         "midstreamer.test",
		ClientSessionCache: s.tickets,
		// A name is not checked, because identities are URIs: verified below.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.State) error {
			return verified(state, roots, asked.Server)
		},
	}
	if asked.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(asked.Certificate, asked.Key)
		if err != nil {
			return nil, err
		}
		// Whatever the server says it accepts: it is to be tried.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &pair, nil
		}
	}
	return config, nil
}

// verified holds the server's certificate to its chain, usage and URI.
func verified(state tls.State, roots *x509.CertPool, server string) error {
	leaf, others := state.PeerCertificates[0], x509.NewCertPool()
	for _, other := range state.PeerCertificates[1:] {
		others.AddCert(other)
	}
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	options := x509.VerifyOptions{Roots: roots, Intermediates: others, KeyUsages: usage}
	if _, err := leaf.Verify(options); err != nil {
		return err
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != server {
		return fmt.Errorf("the server is %v, not %s", leaf.URIs, server)
	}
	return nil
}

// stream opens streams up to an id, as QUIC numbers them, and reads frames from each.
func (s *session) stream(id int) (*quic.Stream, error) {
	if s.conn == nil {
		return nil, errors.New("not connected")
	}
	for s.streams[id] == nil {
		opened, err := s.conn.OpenStream()
		if err != nil {
			return nil, err
		}
		s.streams[int(opened.StreamID())] = opened
		go s.read(opened)
	}
	return s.streams[id], nil
}

// write sends bytes as they are.
func (s *session) write(asked request) (result, error) {
	data, err := hex.DecodeString(asked.Hex)
	if err != nil {
		return nil, err
	}
	stream, err := s.stream(asked.Stream)
	if err != nil {
		return nil, err
	}
	_, err = stream.Write(data)
	return nil, err
}

// ask sends one frame; with a field "request" in it, the next frame that comes is its answer.
func (s *session) ask(asked request) (result, error) {
	data, err := encoded(asked.Frame, asked.Pad)
	if err != nil {
		return nil, err
	}
	stream, err := s.stream(asked.Stream)
	if err != nil {
		return nil, err
	}
	began, before := time.Now(), s.came.Load()
	if _, err := stream.Write(data); err != nil {
		return nil, s.cause(err)
	}
	found := result{"sent_bytes": len(data)}
	if asked.Frame["request"] == nil {
		return found, nil
	}
	frame, err := s.next(asked.patience())
	found["frame"], found["came_bytes"] = frame, s.came.Load()-before
	found["took_s"] = time.Since(began).Seconds()
	return found, err
}

func (s *session) receive(asked request) (result, error) {
	frame, err := s.next(asked.patience())
	return result{"frame": frame}, err
}

func (s *session) next(patience time.Duration) (map[string]any, error) {
	select {
	case frame := <-s.frames:
		return frame, nil
	case <-s.conn.Context().Done():
		return nil, context.Cause(s.conn.Context())
	case <-time.After(patience):
		return nil, context.DeadlineExceeded
	}
}

// end waits for the other side to close; the reason is reported as a failure.
func (s *session) end(asked request) (result, error) {
	select {
	case <-s.conn.Context().Done():
		return nil, context.Cause(s.conn.Context())
	case <-time.After(asked.patience()):
		return nil, context.DeadlineExceeded
	}
}

// cause is why the connection ended, where that is why a stream failed.
func (s *session) cause(err error) error {
	if ended := context.Cause(s.conn.Context()); ended != nil {
		return ended
	}
	return err
}

// rebind goes on from another port without a word, as behind a NAT that forgot.
func (s *session) rebind(request) (result, error) {
	return nil, s.socket.move()
}

// migrate goes on from another port as QUIC means it: probed first, with another number.
func (s *session) migrate(asked request) (result, error) {
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	path, err := s.conn.AddPath(&quic.Transport{Conn: socket})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), asked.patience())
	defer cancel()
	if err := path.Probe(ctx); err != nil {
		return nil, fmt.Errorf("probing: %w", err)
	}
	return nil, path.Switch()
}

// updateKeys cannot be asked of quic-go, which updates by itself after 100 packets.
func (s *session) updateKeys(request) (result, error) {
	return nil, errUnsupported
}

func (s *session) facts(request) (result, error) {
	state := s.conn.State()
	return result{
		"resumed": state.TLS.DidResume,
		"early":   state.Used0RTT,
		"tickets": s.tickets.count.Load(),
		"alpn":    state.TLS.NegotiatedProtocol,
	}, nil
}

func (s *session) close(request) (result, error) {
	return nil, s.conn.CloseWithError(0, "")
}

// failure tells who ended it, QUIC's number and the words that came with it.
func failure(err error) result {
	told := result{"ok": false, "by": "client", "reason": err.Error()}
	var transport *quic.TransportError
	var application *quic.ApplicationError
	switch {
	case errors.As(err, &transport):
		told["error"], told["reason"] = uint64(transport.ErrorCode), transport.ErrorMessage
		told["by"] = side(transport.Remote)
	case errors.As(err, &application):
		told["error"], told["reason"] = uint64(application.ErrorCode), application.ErrorMessage
		told["by"] = side(application.Remote)
	}
	return told
}

func side(remote bool) string {
	if remote {
		return "server"
	}
	return "client"
}

// counted counts the session tickets that servers issue.
type counted struct {
	inner tls.ClientSessionCache
	count atomic.Int64
}

func (c *counted) Get(key string) (*tls.ClientSessionState, bool) { return c.inner.Get(key) }

func (c *counted) Put(key string, state *tls.ClientSessionState) {
	if state != nil {
		c.count.Add(1)
	}
	c.inner.Put(key, state)
}

// movable is a UDP socket whose port can be changed beneath a connection.
type movable struct {
	mutex sync.Mutex
	now   *net.UDPConn
}

func newMovable() (*movable, error) {
	made := &movable{}
	return made, made.move()
}

func (m *movable) move() error {
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	m.mutex.Lock()
	before := m.now
	m.now = socket
	m.mutex.Unlock()
	if before != nil {
		return before.Close()
	}
	return nil
}

func (m *movable) current() *net.UDPConn {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return m.now
}

// ReadFrom goes on with the new socket when the old one was closed beneath it.
func (m *movable) ReadFrom(into []byte) (int, net.Addr, error) {
	for {
		socket := m.current()
		count, from, err := socket.ReadFrom(into)
		if err == nil || socket == m.current() {
			return count, from, err
		}
	}
}

func (m *movable) WriteTo(data []byte, to net.Addr) (int, error) {
	return m.current().WriteTo(data, to)
}

func (m *movable) Close() error                       { return m.current().Close() }
func (m *movable) LocalAddr() net.Addr                { return m.current().LocalAddr() }
func (m *movable) SetDeadline(t time.Time) error      { return m.current().SetDeadline(t) }
func (m *movable) SetReadDeadline(t time.Time) error  { return m.current().SetReadDeadline(t) }
func (m *movable) SetWriteDeadline(t time.Time) error { return m.current().SetWriteDeadline(t) }
