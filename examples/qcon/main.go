// SPDX-License-Identifier: Apache-2.0

// Qcon is a small web server that shows which architecture it was compiled for, on which host it runs and from which
// image: one name on a cluster of many architectures, and each request may be answered by another.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const usage = `usage: qcon [serve] [--listen ADDRESS]   answer HTTP (default: :8080, or $QCON_LISTEN)
       qcon get [URL]                    fetch a URL (default: this server's own /healthz); fails unless it says 200
       qcon version                      print the platform it was compiled for

environment:
  QCON_IMAGE   the image it runs from, NAME@sha256:DIGEST; a program cannot find out by itself
  QCON_NODE    the machine it runs on, where that is not the host name
`

const getTimeout = 3 * time.Second

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "qcon:", err)
		os.Exit(1)
	}
}

// run carries out one command line.
func run(args []string, out io.Writer, env func(string) string) error {
	command := "serve"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet("qcon", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage) }
	listen := flags.String("listen", fallback(env("QCON_LISTEN"), ":8080"), "address to answer on")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	switch {
	case command == "serve" && flags.NArg() == 0:
		return listenAndServe(*listen, identify(env))
	case command == "get" && flags.NArg() <= 1:
		return get(fallback(flags.Arg(0), healthURL(*listen)), out)
	case command == "version" && flags.NArg() == 0:
		_, err := fmt.Fprintln(out, "qcon", identify(env).Platform)
		return err
	}
	return fmt.Errorf("%s: expected serve, get URL or version", strings.Join(append([]string{command}, flags.Args()...), " "))
}

// listenAndServe answers until SIGTERM or Ctrl-C.
func listenAndServe(address string, self Identity) error {
	ended, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return serve(ended, listener, self)
}

// serve answers until it is told to end, and then finishes what is under way: a rolling update loses no request.
func serve(ended context.Context, listener net.Listener, self Identity) error {
	handler, err := newHandler(self)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ended.Done():
	}
	within, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return server.Shutdown(within)
}

// healthURL is where a server that listens on an address says how it is.
func healthURL(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		port = strings.TrimPrefix(listen, ":")
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port) + "/healthz"
}

// get is the health check of an image that has no shell and no curl.
func get(url string, out io.Writer) error {
	client := http.Client{Timeout: getTimeout}
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(out, io.LimitReader(answer.Body, 1<<20)); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, answer.Status)
	}
	return nil
}

func fallback(text, other string) string {
	if text == "" {
		return other
	}
	return text
}
