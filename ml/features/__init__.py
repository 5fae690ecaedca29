"""One definition per feature (`catalogue`), compiled once for each engine (`compile`)."""
