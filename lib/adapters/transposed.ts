/** A matrix of so many rows, turned. */
export function transposed(matrix: Float32Array, rows: number): Float32Array {
  const cols = matrix.length / rows;
  const turned = new Float32Array(matrix.length);
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) turned[col * rows + row] = matrix[row * cols + col]!;
  }
  return turned;
}
