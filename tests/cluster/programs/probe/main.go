// A static program for pods, of the standard library alone.
//
//	pause          wait for SIGTERM; what a pod's sandbox does
//	lookup NAME    print the addresses of a name, sorted
//	serve          answer TCP 8080 and UDP 9000 with the pod's name and the caller's address
//	ask PROTOCOL HOST:PORT    print the answer of one `serve`
package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"sort"
	"strings"
	"syscall"
	"time"
)

const timeout = 2 * time.Second

func main() {
	arguments := os.Args[1:]
	if len(arguments) == 0 {
		arguments = []string{"pause"}
	}
	var err error
	switch verb := arguments[0]; {
	case verb == "pause":
		waitForEnd()
	case verb == "lookup" && len(arguments) == 2:
		err = lookup(arguments[1])
	case verb == "serve":
		err = serve()
	case verb == "ask" && len(arguments) == 3:
		err = ask(arguments[1], arguments[2])
	default:
		err = fmt.Errorf("usage: probe pause | lookup NAME | serve | ask PROTOCOL HOST:PORT")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func waitForEnd() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	<-end
}

func lookup(name string) error {
	addresses, err := net.LookupHost(name)
	if err != nil {
		return err
	}
	sort.Strings(addresses)
	fmt.Println(strings.Join(addresses, "\n"))
	return nil
}

func serve() error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", ":8080")
	if err != nil {
		return err
	}
	socket, err := net.ListenPacket("udp", ":9000")
	if err != nil {
		return err
	}
	go answerConnections(listener, name)
	go answerDatagrams(socket, name)
	waitForEnd()
	return nil
}

func answerConnections(listener net.Listener, name string) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			continue
		}
		fmt.Fprintf(connection, "%s %s", name, connection.RemoteAddr())
		connection.Close()
	}
}

func answerDatagrams(socket net.PacketConn, name string) {
	buffer := make([]byte, 512)
	for {
		if _, from, err := socket.ReadFrom(buffer); err == nil {
			socket.WriteTo([]byte(name+" "+from.String()), from)
		}
	}
}

func ask(protocol, target string) error {
	connection, err := net.DialTimeout(protocol, target, timeout)
	if err != nil {
		return err
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(timeout))
	if _, err := connection.Write([]byte("who\n")); err != nil {
		return err
	}
	buffer := make([]byte, 512)
	count, err := connection.Read(buffer)
	if err != nil {
		return err
	}
	fmt.Println(string(buffer[:count]))
	return nil
}
