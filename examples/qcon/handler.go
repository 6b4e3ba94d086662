// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

//go:embed page/page.html page/style.css pictures/*.svg
var files embed.FS

const everyMax = 60

// view is what the page is made of.
type view struct {
	Self    Identity
	Style   template.CSS
	Picture template.HTML
	Others  []other
	Seen    int
	Again   string // the address that asks again and remembers who has answered
	Every   int    // seconds; 0: the page does not ask by itself
	Toggle  string // the address that starts or stops asking by itself
}

// other is one architecture of the row below.
type other struct {
	Machine
	Drawing template.HTML
	Now     bool
	Seen    bool
}

type server struct {
	self     Identity
	page     *template.Template
	style    template.CSS
	policy   string
	pictures map[string]template.HTML
}

// newHandler reads the files that are compiled in. An error is a mistake in one of them.
func newHandler(self Identity) (http.Handler, error) {
	page, err := template.ParseFS(files, "page/page.html")
	if err != nil {
		return nil, err
	}
	style, err := files.ReadFile("page/style.css")
	if err != nil {
		return nil, err
	}
	made := &server{self: self, page: page, style: template.CSS(style), pictures: map[string]template.HTML{}}
	// The style of the page is allowed by its hash, and nothing else is: no script, nothing from elsewhere.
	hash := sha256.Sum256(style)
	made.policy = "default-src 'none'; img-src 'self'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	drawings, err := files.ReadDir("pictures")
	if err != nil {
		return nil, err
	}
	for _, drawing := range drawings {
		text, err := files.ReadFile("pictures/" + drawing.Name())
		if err != nil {
			return nil, err
		}
		made.pictures[strings.TrimSuffix(drawing.Name(), ".svg")] = template.HTML(text)
	}
	routes := http.NewServeMux()
	routes.HandleFunc("GET /{$}", made.showPage)
	routes.HandleFunc("GET /json", made.showJSON)
	routes.HandleFunc("GET /healthz", made.showHealth)
	routes.HandleFunc("GET /icon.svg", made.showIcon)
	return made.headers(routes), nil
}

// headers make every request reach the balancer anew: a kept connection would show the same node again and again.
func (s *server) headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Security-Policy", s.policy)
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

func (s *server) showPage(w http.ResponseWriter, r *http.Request) {
	made := s.view(r.URL.Query())
	var text bytes.Buffer
	if err := s.page.Execute(&text, made); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(text.Bytes()) // Who hung up does not want it.
}

// view reads which architectures answered before from the address: no cookie, no script, and no node has to remember.
func (s *server) view(query url.Values) view {
	made := view{Self: s.self, Style: s.style, Picture: s.picture(s.self.Machine)}
	before := map[string]bool{}
	for _, name := range strings.Split(query.Get("seen"), ",") {
		before[name] = true
	}
	var seen []string
	for _, machine := range machines {
		each := other{Machine: machine, Drawing: s.picture(machine), Now: machine.Name == s.self.Machine.Name}
		each.Seen = each.Now || before[machine.Name]
		if each.Seen {
			seen = append(seen, machine.Name)
		}
		made.Others = append(made.Others, each)
	}
	made.Seen = len(seen)
	if every, err := strconv.Atoi(query.Get("every")); err == nil && every > 0 {
		made.Every = min(every, everyMax)
	}
	made.Again = address(seen, made.Every)
	made.Toggle = address(seen, 3)
	if made.Every > 0 {
		made.Toggle = address(seen, 0)
	}
	return made
}

func address(seen []string, every int) string {
	query := url.Values{}
	if len(seen) > 0 {
		query.Set("seen", strings.Join(seen, ","))
	}
	if every > 0 {
		query.Set("every", strconv.Itoa(every))
	}
	return "/?" + query.Encode()
}

func (s *server) picture(machine Machine) template.HTML {
	if drawing, ok := s.pictures[machine.Picture()]; ok {
		return drawing
	}
	return s.pictures["other"]
}

func (s *server) showJSON(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(map[string]any{
		"platform": s.self.Platform,
		"host":     s.self.Host,
		"node":     orNull(s.self.Node),
		"image":    orNull(s.self.Image),
		"digest":   orNull(s.self.Digest),
		"go":       s.self.Go,
		"uptime_s": int(time.Since(s.self.Started).Seconds()),
	})
}

func (s *server) showHealth(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "ok")
}

func (s *server) showIcon(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "image/svg+xml")
	_, _ = w.Write([]byte(s.picture(s.self.Machine)))
}

// orNull is for JSON: what nobody told is null, not an empty text.
func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}
