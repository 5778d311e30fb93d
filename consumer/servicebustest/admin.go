package servicebustest

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// listenHTTP starts the HTTP side, if there is to be one.
func (s *Server) listenHTTP() error {
	if s.config.HTTPAddr == "" {
		return nil
	}
	listener, err := net.Listen("tcp", s.config.HTTPAddr)
	if err != nil {
		return fmt.Errorf("service bus http: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"status":"healthy"}`)
	})
	mux.HandleFunc("GET /$Resources/Queues", s.authorized(s.listQueues))
	mux.HandleFunc("GET /{queue...}", s.authorized(s.describeQueue))
	s.httpLn = listener
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	s.running.Go(func() { s.http.Serve(s.secureListener(listener)) })
	return nil
}

// closeHTTP waits for the requests in hand.
func (s *Server) closeHTTP() error {
	if s.http == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) == nil {
		return nil
	}
	return s.http.Close()
}

// authorized checks the token of a request as $cbs does.
func (s *Server) authorized(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, now := r.Header.Get("Authorization"), s.clock.now()
		var refused *fault
		switch {
		case s.faults.tokensRefused.is(now):
			refused = unauthorized("the token is refused at the moment")
		case token == "" || strings.HasPrefix(token, sasPrefix):
			_, refused = s.verify(token, strings.ToLower(strings.Trim(r.URL.Path, "/")), now)
		default: // some clients write Bearer before it, some do not
			_, refused = s.verifyJWT(strings.TrimPrefix(token, "Bearer "), s.scheme()+"://"+r.Host+r.URL.Path, now)
		}
		if refused != nil {
			w.WriteHeader(int(refused.code))
			writeXML(w, atomError{Code: refused.code, Detail: refused.text})
			return
		}
		next(w, r)
	}
}

func (s *Server) describeQueue(w http.ResponseWriter, r *http.Request) {
	q := s.queue(r.PathValue("queue"))
	if q == nil || q.dead == nil {
		// The service does not answer 404 here: it sends this feed.
		writeXML(w, atomFeed{Title: "Publicly Listed Services"})
		return
	}
	writeXML(w, s.entry(q))
}

func (s *Server) listQueues(w http.ResponseWriter, r *http.Request) {
	all := s.mainQueues()
	query := r.URL.Query()
	skip, _ := strconv.Atoi(query.Get("$skip"))
	top, err := strconv.Atoi(query.Get("$top"))
	if err != nil {
		top = 100
	}
	all = all[min(max(skip, 0), len(all)):]
	all = all[:min(max(top, 0), len(all))]
	feed := atomFeed{Title: "Queues"}
	for _, q := range all {
		feed.Entries = append(feed.Entries, s.entry(q))
	}
	writeXML(w, feed)
}

func writeXML(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/atom+xml;charset=utf-8")
	xml.NewEncoder(w).Encode(v)
}

type atomError struct {
	XMLName xml.Name `xml:"Error"`
	Code    int32
	Detail  string
}

type atomFeed struct {
	XMLName xml.Name    `xml:"http://www.w3.org/2005/Atom feed"`
	Title   string      `xml:"title"`
	Entries []atomEntry `xml:"entry"`
}

type atomEntry struct {
	XMLName xml.Name `xml:"http://www.w3.org/2005/Atom entry"`
	Title   string   `xml:"title"`
	Content struct {
		Type        string `xml:"type,attr"`
		Description queueDescription
	} `xml:"content"`
}

// queueDescription is a queue in the words of the management API: durations in ISO 8601, times in RFC 3339.
type queueDescription struct {
	XMLName                             xml.Name `xml:"http://schemas.microsoft.com/netservices/2010/10/servicebus/connect QueueDescription"`
	LockDuration                        string
	MaxSizeInMegabytes                  int
	RequiresDuplicateDetection          bool
	RequiresSession                     bool
	DefaultMessageTimeToLive            string
	DeadLetteringOnMessageExpiration    bool
	DuplicateDetectionHistoryTimeWindow string
	MaxDeliveryCount                    int
	EnableBatchedOperations             bool
	SizeInBytes                         int
	MessageCount                        int
	Status                              string
	CreatedAt, UpdatedAt, AccessedAt    string
	CountDetails                        struct {
		ActiveMessageCount             int
		DeadLetterMessageCount         int
		ScheduledMessageCount          int
		TransferMessageCount           int
		TransferDeadLetterMessageCount int
	}
	EnablePartitioning        bool
	MaxMessageSizeInKilobytes int
}

const maxQueueMegabytes = 1024

func (s *Server) entry(q *queue) atomEntry {
	state, settings := q.state(), q.settings
	entry := atomEntry{Title: q.name}
	entry.Content.Type = "application/xml"
	d := &entry.Content.Description
	d.LockDuration = formatDuration(settings.LockDuration)
	d.MaxSizeInMegabytes = maxQueueMegabytes
	d.RequiresDuplicateDetection = settings.RequiresDuplicateDetection
	d.RequiresSession = settings.RequiresSession
	d.DefaultMessageTimeToLive = formatDuration(settings.DefaultTTL)
	d.DeadLetteringOnMessageExpiration = settings.DeadLetteringOnExpiration
	d.DuplicateDetectionHistoryTimeWindow = formatDuration(settings.DuplicateDetectionWindow)
	d.MaxDeliveryCount = settings.MaxDeliveryCount
	d.EnableBatchedOperations = true
	d.MaxMessageSizeInKilobytes = settings.MaxMessageBytes >> 10
	d.SizeInBytes = q.sizeInBytes()
	d.MessageCount = state.Active + state.Locked + state.Scheduled + state.Deferred + state.DeadLettered
	d.Status = "Active"
	if q.isDisabled() {
		d.Status = "Disabled"
	}
	created := s.created.Format(time.RFC3339Nano)
	d.CreatedAt, d.UpdatedAt, d.AccessedAt = created, created, created
	d.CountDetails.ActiveMessageCount = state.Active + state.Locked
	d.CountDetails.DeadLetterMessageCount = state.DeadLettered
	d.CountDetails.ScheduledMessageCount = state.Scheduled
	return entry
}

func (q *queue) sizeInBytes() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dead.mu.Lock()
	defer q.dead.mu.Unlock()
	return q.bytes + q.dead.bytes
}
