import { matmulTrial } from '../matmul-trial.ts'

export default matmulTrial('bfloat16', 0.65)
