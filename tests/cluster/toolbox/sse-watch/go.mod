module toolbox/sse-watch

go 1.26.8

require github.com/tmaxmax/go-sse v0.11.0
