package caddyimap

import "github.com/prometheus/client_golang/prometheus"

var (
	headerCacheHits = newDesc("header_cache_hits_total",
		"Messages to be put in order that were known already.")
	headerCacheMisses = newDesc("header_cache_misses_total",
		"Messages to be put in order that the backend was asked about.")
	headerCacheBytes = newDesc("header_cache_bytes",
		"Memory that is used to remember what is needed to put messages in order.")
)

// cacheMetrics is how the cache of headers is used. It is looked at when somebody asks.
type cacheMetrics struct{}

// Describe implements prometheus.Collector.
func (cacheMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- headerCacheHits
	ch <- headerCacheMisses
	ch <- headerCacheBytes
}

// Collect implements prometheus.Collector.
func (cacheMetrics) Collect(ch chan<- prometheus.Metric) {
	defer collected()
	stats := headerCache.Stats()
	counter(ch, headerCacheHits, int64(stats.Hits))
	counter(ch, headerCacheMisses, int64(stats.Misses))
	gauge(ch, headerCacheBytes, float64(stats.Bytes))
}

// Interface guard.
var _ prometheus.Collector = cacheMetrics{}
