package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// requestBuckets go from an answer out of memory to a scan of a whole state.
var requestBuckets = []float64{.0001, .0003, .001, .003, .01, .03, .1, .3, 1, 5, 30}

// classes are the classes of statuses, as labels; by the hundreds of a status.
var classes = [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

// noRoute is the label of requests that no route fits.
const noRoute = "none"

// Route gives what counts the requests of a route, by the class of their status, and
// how long they took. It takes some 100 ns and allocates nothing, but at the first
// request of a class. Series of 2xx are there from the start.
func (m *Metrics) Route(method, pattern string) func(status int, took time.Duration) {
	if pattern == "" {
		method, pattern = noRoute, noRoute
	}
	r := &route{make: func(class string) prometheus.Observer {
		return m.requests.WithLabelValues(method, pattern, class)
	}}
	if pattern != noRoute {
		r.of(2)
	}
	return r.observe
}

// route has the histograms of a route, by class, once they are needed.
type route struct {
	make    func(class string) prometheus.Observer
	classes [len(classes)]atomic.Pointer[prometheus.Observer]
}

func (r *route) of(class int) prometheus.Observer {
	if o := r.classes[class].Load(); o != nil {
		return *o
	}
	o := r.make(classes[class])
	r.classes[class].Store(&o)
	return o
}

// observe counts a request. A status that is none is that of an answer which was broken
// off before it began.
func (r *route) observe(status int, took time.Duration) {
	class := status / 100
	if class < 0 || class >= len(classes) {
		class = 0
	}
	r.of(class).Observe(took.Seconds())
}

// Refused counts a request that was refused for a limit. Both come from the program,
// never from a client.
func (m *Metrics) Refused(limit, kind string) { m.refused.WithLabelValues(limit, kind).Inc() }

// Refusable has a limit's counter there from the start, so that its first refusal is
// seen as a rise.
func (m *Metrics) Refusable(limit, kind string) { m.refused.WithLabelValues(limit, kind) }

func (m *Metrics) makeHTTP() {
	m.requests = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Name: "http_request_seconds",
		Help:    "Time of requests that were answered, streams that go on for ever left out; its count is that of the requests.",
		Buckets: requestBuckets,
	}, []string{"method", "route", "class"})
	m.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "http_refused_total",
		Help: "Requests, and lines of streams, that were refused for a limit, by the kind of the answer's error.",
	}, []string{"limit", "kind"})
	m.registry.MustRegister(m.requests, m.refused)
}
