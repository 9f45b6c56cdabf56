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

// A session holds one connection at a time, and the session tickets that outlive a connection.
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

// connect completes the TLS handshake; the server may still refuse afterwards.
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
		// Host names are not checked, because identities are URIs: see verified below.
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
		// Present the certificate whatever the server says it accepts, to test the server.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &pair, nil
		}
	}
	return config, nil
}

// verified checks the server's certificate: its chain, usage and URI.
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

// stream opens streams up to an id, in QUIC's numbering, and reads frames from each of them.
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

// write sends bytes unchanged.
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

// ask sends one frame; if the frame has a field "request", the next received frame is its answer.
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

// end waits for the server to close the connection; the reason is reported as a failure.
func (s *session) end(asked request) (result, error) {
	select {
	case <-s.conn.Context().Done():
		return nil, context.Cause(s.conn.Context())
	case <-time.After(asked.patience()):
		return nil, context.DeadlineExceeded
	}
}

// cause returns why the connection ended if it ended, and otherwise the stream's own error.
func (s *session) cause(err error) error {
	if ended := context.Cause(s.conn.Context()); ended != nil {
		return ended
	}
	return err
}

// rebind continues from another port without notice, as behind a NAT that lost its mapping.
func (s *session) rebind(request) (result, error) {
	return nil, s.socket.move()
}

// migrate moves to another port with QUIC's path migration: it probes the new path first.
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

// updateKeys is unsupported: quic-go updates keys by itself after 100 packets.
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

// failure reports who ended the connection, QUIC's error code and the reason.
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

// movable is a UDP socket whose port can change during a connection.
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

// ReadFrom continues with the new socket after move has closed the old one.
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
