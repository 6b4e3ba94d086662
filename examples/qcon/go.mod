module example.org/qcon

go 1.23
