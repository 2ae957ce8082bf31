# The image of Beam's workers that prepare text (launch/dataflow.sh, flink.sh,
# spark.sh). Dataflow pulls it from a registry that the project can read.
#   docker build -f launch/beam.Dockerfile -t I . && docker push I
FROM apache/beam_python3.11_sdk:2.77.0
WORKDIR /robertax
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY . .
RUN pip install --no-cache-dir --no-deps .
