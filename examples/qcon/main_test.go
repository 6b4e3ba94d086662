// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func on(name string) Identity {
	self := Identity{Platform: "linux/" + name, Machine: Machine{Name: name}, Host: "box", Go: "go1", Started: time.Now()}
	for _, machine := range machines {
		if machine.Name == name {
			self.Machine, self.Known = machine, true
		}
	}
	return self
}

func ask(t *testing.T, self Identity, path string) (*httptest.ResponseRecorder, string) {
	t.Helper()
	handler, err := newHandler(self)
	if err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
	return answer, answer.Body.String()
}

func TestImage(t *testing.T) {
	for _, each := range []struct{ text, name, digest string }{
		{"", "", ""},
		{"reg.example.org:5000/a/qcon:1@" + digest, "reg.example.org:5000/a/qcon:1", digest},
		{"@" + digest, "", digest},
		{" qcon \n", "qcon", ""},
		{"qcon@sha256:short", "qcon", ""},
		{"qcon@" + digest + "00", "qcon", ""},
		{"q\x1b[31mcon", "q[31mcon", ""},
		{strings.Repeat("x", 1000), strings.Repeat("x", 300), ""},
	} {
		name, digest := image(each.text)
		if name != each.name || digest != each.digest {
			t.Errorf("image(%q) = %q, %q; expected %q, %q", each.text, name, digest, each.name, each.digest)
		}
	}
}

func TestIdentity(t *testing.T) {
	self := identify(environment("QCON_NODE", "node-1", "QCON_IMAGE", "qcon@"+digest))
	if !strings.HasPrefix(self.Platform, runtime.GOOS+"/"+runtime.GOARCH) {
		t.Errorf("platform %s on %s/%s", self.Platform, runtime.GOOS, runtime.GOARCH)
	}
	if self.Node != "node-1" || self.Image != "qcon" || self.Digest != digest || self.Host == "" {
		t.Errorf("%+v", self)
	}
}

func TestEveryArchitectureHasAPictureOfItsOwn(t *testing.T) {
	drawings := map[string]string{}
	for _, machine := range machines {
		_, page := ask(t, on(machine.Name), "/")
		drawing := strings.Split(strings.Split(page, `aria-hidden="true">`)[1], "</div>")[0]
		if decoder := xml.NewDecoder(strings.NewReader(drawing)); !wellFormed(decoder) {
			t.Errorf("%s: no well-formed picture: %.80s", machine.Name, drawing)
		}
		if other := drawings[drawing]; other != "" {
			t.Errorf("%s has the picture of %s", machine.Name, other)
		}
		drawings[drawing] = machine.Name
		for _, wanted := range []string{"<h1 id=\"platform\">linux/" + machine.Name + "</h1>", machine.Found, "1 of 8 architectures"} {
			if !strings.Contains(page, wanted) {
				t.Errorf("%s: the page lacks %q", machine.Name, wanted)
			}
		}
	}
	_, page := ask(t, on("sparc64"), "/")
	if !strings.Contains(page, "no picture of yet") || !strings.Contains(page, "0 of 8 architectures") {
		t.Error("an architecture without a picture is not told")
	}
}

func wellFormed(decoder *xml.Decoder) bool {
	for {
		if _, err := decoder.Token(); err != nil {
			return err == io.EOF
		}
	}
}

func TestUnknownDigestIsToldHonestly(t *testing.T) {
	self := on("s390x")
	if _, page := ask(t, self, "/"); !strings.Contains(page, "unknown: nobody told in QCON_IMAGE") {
		t.Error("no word about an unknown image")
	}
	self.Image = "reg/qcon:1"
	if _, page := ask(t, self, "/"); !strings.Contains(page, "unknown: the name was told without it") {
		t.Error("no word about an unknown digest")
	}
	self.Digest = digest
	if _, page := ask(t, self, "/"); !strings.Contains(page, digest) || strings.Contains(page, "unknown") {
		t.Error("the digest is not shown")
	}
}

func TestJSON(t *testing.T) {
	self := on("arm/v7")
	for _, known := range []bool{false, true} {
		if known {
			self.Node, self.Image, self.Digest = "n", "i", digest
		}
		answer, text := ask(t, self, "/json")
		var got map[string]any
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		if got["platform"] != "linux/arm/v7" || got["host"] != "box" || (got["digest"] == any(digest)) != known {
			t.Errorf("%v", got)
		}
		if !known && (got["digest"] != nil || got["image"] != nil || got["node"] != nil) {
			t.Errorf("not null: %v", got)
		}
		if answer.Header().Get("Content-Type") != "application/json" {
			t.Error("not JSON")
		}
	}
}

func TestSeenIsRememberedInTheAddress(t *testing.T) {
	_, page := ask(t, on("arm64"), "/?seen=s390x,arm/v7,nonsense,<b>,s390x&every=999")
	for _, wanted := range []string{
		"3 of 8 architectures",
		`href="/?every=60&amp;seen=arm64%2Carm%2Fv7%2Cs390x"`,
		`content="60; url=/?every=60&amp;seen=arm64%2Carm%2Fv7%2Cs390x"`,
		`href="/?seen=arm64%2Carm%2Fv7%2Cs390x"`,
		`<li class="now" aria-current="true">`,
	} {
		if !strings.Contains(page, wanted) {
			t.Errorf("the page lacks %s", wanted)
		}
	}
	if strings.Contains(page, "nonsense") || strings.Contains(page, "<b>") {
		t.Error("words of the address are on the page")
	}
}

func TestStrangersWordsAreText(t *testing.T) {
	self := on("386")
	self.Host, self.Node, self.Image = "<script>1</script>", "<i>", "<img src=x>"
	if _, page := ask(t, self, "/"); regexp.MustCompile(`<(script|i|img)[ >]`).MatchString(page) {
		t.Error("markup got through")
	}
}

func TestHeaders(t *testing.T) {
	for path, code := range map[string]int{"/": 200, "/json": 200, "/healthz": 200, "/icon.svg": 200, "/other": 404} {
		answer, _ := ask(t, on("amd64"), path)
		if answer.Code != code {
			t.Errorf("%s: %d, expected %d", path, answer.Code, code)
		}
		if answer.Header().Get("Connection") != "close" || answer.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: a balancer or a cache would answer with the same again", path)
		}
		if !strings.Contains(answer.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: no policy", path)
		}
	}
}

func TestGet(t *testing.T) {
	handler, err := newHandler(on("amd64"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	var out bytes.Buffer
	if err := run([]string{"get"}, &out, environment("QCON_LISTEN", address)); err != nil || out.String() != "ok\n" {
		t.Errorf("healthy: %v, %q", err, out.String())
	}
	if err := run([]string{"get", server.URL + "/other"}, io.Discard, environment()); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("404: %v", err)
	}
	server.Close()
	if err := run([]string{"get"}, io.Discard, environment("QCON_LISTEN", address)); err == nil {
		t.Error("nobody answers, and all is well?")
	}
}

func TestHealthURL(t *testing.T) {
	for listen, wanted := range map[string]string{
		":8080":           "http://127.0.0.1:8080/healthz",
		"0.0.0.0:81":      "http://127.0.0.1:81/healthz",
		"10.1.2.3:80":     "http://10.1.2.3:80/healthz",
		"[2001:db8::1]:1": "http://[2001:db8::1]:1/healthz",
	} {
		if got := healthURL(listen); got != wanted {
			t.Errorf("healthURL(%q) = %s, expected %s", listen, got, wanted)
		}
	}
}

func TestCommandLine(t *testing.T) {
	var out bytes.Buffer
	if err := run([]string{"version"}, &out, environment()); err != nil || !strings.HasPrefix(out.String(), "qcon "+runtime.GOOS+"/") {
		t.Errorf("%v, %q", err, out.String())
	}
	for _, args := range [][]string{{"dance"}, {"get", "a", "b"}, {"serve", "x"}, {"--listen"}} {
		if err := run(args, io.Discard, environment()); err == nil {
			t.Errorf("%v is no mistake?", args)
		}
	}
	if err := run([]string{"serve", "--listen", "127.0.0.1:99999"}, io.Discard, environment()); err == nil {
		t.Error("a port of 99999 is no mistake?")
	}
}

func TestEndsWhenTold(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ended, listener, on("riscv64")) }()
	if err := get("http://"+listener.Addr().String()+"/", io.Discard); err != nil {
		t.Error(err)
	}
	end()
	if err := <-done; err != nil {
		t.Errorf("told to end: %v", err)
	}
	if err := get("http://"+listener.Addr().String()+"/", io.Discard); err == nil {
		t.Error("it still answers")
	}
}
